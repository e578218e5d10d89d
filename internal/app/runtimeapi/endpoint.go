package runtimeapi

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// endpoint is the Runtime API of one environment.
func (e *environment) endpoint() http.Handler {
	mux := http.NewServeMux()
	const runtime = "/2018-06-01/runtime"
	mux.HandleFunc("GET "+runtime+"/invocation/next", e.serveNext)
	mux.HandleFunc("POST "+runtime+"/invocation/{id}/response", func(w http.ResponseWriter, r *http.Request) { e.serveAnswer(w, r, false) })
	mux.HandleFunc("POST "+runtime+"/invocation/{id}/error", func(w http.ResponseWriter, r *http.Request) { e.serveAnswer(w, r, true) })
	mux.HandleFunc("POST "+runtime+"/init/error", e.serveInitError)
	return mux
}

// serveNext ends the phase that the process was in, and waits for an invocation.
func (e *environment) serveNext(w http.ResponseWriter, r *http.Request) {
	at := time.Now()
	e.mu.Lock()
	if e.phase != waiting { // a second request for the same one waits beside the first
		e.phase = waiting
		e.mu.Unlock()
		e.asked <- at
	} else {
		e.mu.Unlock()
	}
	var next work
	select {
	case next = <-e.handed:
	case <-r.Context().Done():
		return
	}
	e.mu.Lock()
	e.phase, e.current, e.answer = working, next.id, nil
	e.mu.Unlock()
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Lambda-Runtime-Aws-Request-Id", next.id)
	h.Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(next.deadline.UnixMilli(), 10))
	h.Set("Lambda-Runtime-Invoked-Function-Arn", next.arn)
	h.Set("Lambda-Runtime-Trace-Id", traceID(at))
	_, _ = w.Write(next.payload) // a process that is gone by now shows as such
}

// traceID is an X-Ray tracing header, of a request that is not sampled.
func traceID(at time.Time) string {
	id := requestID()
	return fmt.Sprintf("Root=1-%08x-%s%s;Parent=%s%s;Sampled=0", at.Unix(), id[:8], id[19:23]+id[24:36], id[24:36], id[9:13])
}

// serveAnswer takes the answer of the invocation under way.
func (e *environment) serveAnswer(w http.ResponseWriter, r *http.Request, failed bool) {
	payload, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxPayload))
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.phase == starting || e.phase == waiting || e.phase == answered && r.PathValue("id") == e.current:
		refuse(w, http.StatusForbidden, "InvalidStateTransition", "Transition from the present state is not allowed")
	case r.PathValue("id") != e.current:
		refuse(w, http.StatusBadRequest, "InvalidRequestID", "Invalid request ID")
	case err != nil:
		text := fmt.Sprintf("Exceeded maximum allowed payload size (%d bytes).", maxPayload)
		tooLarge, _ := json.Marshal(map[string]string{"errorType": "Function.ResponseSizeTooLarge", "errorMessage": text})
		e.phase, e.answer = answered, &answer{tooLarge, true}
		refuse(w, http.StatusRequestEntityTooLarge, "RequestEntityTooLarge", text)
	default:
		e.phase, e.answer = answered, &answer{payload, failed}
		accept(w)
	}
}

// serveInitError takes why the init phase failed. The process is expected to end then.
func (e *environment) serveInitError(w http.ResponseWriter, r *http.Request) {
	payload, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxPayload))
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.phase != starting || err != nil {
		refuse(w, http.StatusForbidden, "InvalidStateTransition", "Transition from the present state is not allowed")
		return
	}
	e.failed = payload
	accept(w)
}

func accept(w http.ResponseWriter) { say(w, http.StatusAccepted, map[string]string{"status": "OK"}) }

func refuse(w http.ResponseWriter, status int, kind, text string) {
	say(w, status, map[string]string{"errorType": kind, "errorMessage": text})
}

func say(w http.ResponseWriter, status int, body map[string]string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}
