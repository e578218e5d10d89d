package provider

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http/httptrace"
	"sync/atomic"
)

// trace watches how far a request got, which decides what its failure means: of
// what never left, a provider cannot have heard.
type trace struct {
	began     atomic.Bool // the transport reports at all
	wrote     atomic.Bool // something may have been sent
	handshake atomic.Bool // the TLS handshake failed
}

// follow returns a context under which a transport reports to t. Headers count
// once they were written, be it into a buffer: whether they left cannot be known.
func (t *trace) follow(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn:              func(string) { t.began.Store(true) },
		WroteHeaders:         func() { t.wrote.Store(true) },
		WroteRequest:         func(httptrace.WroteRequestInfo) { t.wrote.Store(true) },
		GotFirstResponseByte: func() { t.wrote.Store(true) },
		TLSHandshakeDone: func(_ tls.ConnectionState, err error) {
			if err != nil {
				t.handshake.Store(true)
			}
		},
	})
}

// failure classifies the error of a round trip. A transport that reports nothing
// may have sent everything.
func (t *trace) failure(ctx context.Context, err error) Failure {
	var dns *net.DNSError
	switch {
	case errors.Is(err, errAddress):
		return FailureAddress
	case t.wrote.Load() || !t.began.Load():
		if ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded) {
			return FailureTimeout
		}
		return FailureResetAfter
	case errors.As(err, &dns):
		return FailureDNS
	case t.handshake.Load():
		return FailureTLS
	}
	return FailureResetBefore
}
