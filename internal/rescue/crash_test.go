//go:build unix

package rescue_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/evergrant/evergrant/internal/rescue"
)

// child runs the test of that name again in a process of its own, as the child it
// asks for by this variable, which holds a path.
const childVariable = "EVERGRANT_TEST_RESCUE"

func child(t *testing.T, path string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(self, "-test.run=^"+t.Name()+"$", "-test.v")
	c.Env = append(os.Environ(), childVariable+"="+path)
	return c
}

// TestWhatPutAcknowledgedOutlivesAKill kills a process that writes without a pause.
// Each record that it has named as written must be there afterwards.
func TestWhatPutAcknowledgedOutlivesAKill(t *testing.T) {
	if path := os.Getenv(childVariable); path != "" {
		writeForever(t, path)
	}
	for round := range 5 {
		path := filepath.Join(t.TempDir(), "rescue.log")
		c := child(t, path)
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		var acknowledged []string
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if id, ok := strings.CutPrefix(lines.Text(), "put "); ok {
				acknowledged = append(acknowledged, id)
			}
			if len(acknowledged) == 10+7*round {
				_ = c.Process.Kill() // the lines already on their way count too
			}
		}
		_ = c.Wait()
		if len(acknowledged) < 10+7*round {
			t.Fatalf("the child ended after %d records", len(acknowledged))
		}
		l := open(t, path, 1<<20)
		for _, id := range acknowledged {
			if !l.Holds(id) {
				t.Errorf("%s was acknowledged and is gone", id)
			}
		}
	}
}

func writeForever(t *testing.T, path string) {
	l := open(t, path, 1<<20)
	for i := 0; ; i++ {
		id := fmt.Sprintf("conn_%d", i)
		err := l.Put(t.Context(), id, []byte(strings.Repeat("sealed ", i%400)))
		if errors.Is(err, rescue.ErrFull) {
			select {} // until the kill
		}
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println("put " + id)
	}
}

// TestAFullDiskDoesNotStopARescue lets a process open its log and then forbids it to
// make any file longer, which is what a full disk does.
func TestAFullDiskDoesNotStopARescue(t *testing.T) {
	if path := os.Getenv(childVariable); path != "" {
		rescueOnAFullDisk(t, path)
		return
	}
	out, err := child(t, filepath.Join(t.TempDir(), "rescue.log")).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "PASS") {
		t.Errorf("%v\n%s", err, out)
	}
}

func rescueOnAFullDisk(t *testing.T, path string) {
	l := open(t, path, size)
	signal.Ignore(syscall.SIGXFSZ)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: size, Max: size}); err != nil {
		t.Fatal(err)
	}
	n := 0
	for ; ; n++ {
		err := l.Put(t.Context(), fmt.Sprint(n), make([]byte, 400))
		if errors.Is(err, rescue.ErrFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if n != size/512 {
		t.Errorf("%d records", n)
	}
	if got := pending(t, l, true); len(got) != n {
		t.Errorf("%d records came back", len(got))
	}
	put(t, l, "again", "x")
	if _, err := rescue.Open(path+"2", 2*size); err == nil {
		t.Error("a log was opened that has no room")
	}
}
