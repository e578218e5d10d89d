// Package panicked says of a panic what may be logged: its text could hold a secret, and a
// stack shows arguments.
package panicked

import (
	"fmt"
	"runtime"
	"strings"
)

// Kind tells what a recovered value is without its text, except for the runtime's own
// errors: those name types and indexes, never the contents of a string.
func Kind(v any) string {
	if err, ok := v.(runtime.Error); ok {
		return err.Error()
	}
	return fmt.Sprintf("%T", v)
}

// Place is the function and line that panicked, "unknown" where nothing did. It is to be
// called by the deferred function that recovered.
func Place() string {
	pcs := make([]uintptr, 32)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(1, pcs)])
	for panicking := false; ; {
		frame, more := frames.Next()
		inRuntime := strings.HasPrefix(frame.Function, "runtime.")
		if panicking && !inRuntime {
			return fmt.Sprintf("%s:%d", frame.Function, frame.Line)
		}
		panicking = panicking || frame.Function == "runtime.gopanic"
		if !more {
			return "unknown"
		}
	}
}
