package provider_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/evergrant/evergrant/internal/provider"
)

func discardLog() *log.Logger { return log.New(io.Discard, "", 0) }

// resolver answers every look-up of an IPv4 address with these in turn, the last
// for ever; nil: with an error.
func resolver(answers []netip.Addr) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		if len(answers) == 0 {
			return nil, errors.New("no name server")
		}
		ours, theirs := net.Pipe()
		a := answers[0]
		if len(answers) > 1 {
			answers = answers[1:]
		}
		go serveName(theirs, a)
		return ours, nil
	}}
}

// serveName answers DNS queries over a stream (RFC 1035 section 4.2.2).
func serveName(c net.Conn, a netip.Addr) {
	defer c.Close()
	for {
		var size uint16
		if binary.Read(c, binary.BigEndian, &size) != nil {
			return
		}
		q := make([]byte, size)
		if _, err := io.ReadFull(c, q); err != nil {
			return
		}
		end := 12 // after the question: name, type, class
		for q[end] != 0 {
			end += int(q[end]) + 1
		}
		end += 5
		r := append([]byte{q[0], q[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, q[12:end]...)
		if kind := binary.BigEndian.Uint16(q[end-4:]); kind == 1 {
			r[7] = 1
			ip := a.As4()
			r = append(r, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, ip[0], ip[1], ip[2], ip[3])
		}
		if binary.Write(c, binary.BigEndian, uint16(len(r))) != nil {
			return
		}
		if _, err := c.Write(r); err != nil {
			return
		}
	}
}

var (
	_ = mutant("T41", "internal/provider/transport.go", `		if o.AllowLoopback {`, `		if a.IsLoopback() {`)
	_ = mutant("T41", "internal/provider/transport.go", `return o.admit(address)`, `return TransportOptions{AllowLoopback: true}.admit(address)`)
)

func TestThreat_T41_no_name_and_no_address_leads_into_the_own_network(t *testing.T) {
	t.Run("names", namesThatLeadIntoTheOwnNetworkAreNotDialled)
	t.Run("addresses", addressesThatAreNotDialled)
}

func namesThatLeadIntoTheOwnNetworkAreNotDialled(t *testing.T) {
	for _, address := range []string{"127.0.0.1", "169.254.169.254", "10.0.0.7", "100.64.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255"} {
		tr := provider.NewTransport(provider.TransportOptions{Resolver: resolver([]netip.Addr{netip.MustParseAddr(address)})})
		c := &provider.Client{Transport: tr}
		a := c.Token(t.Context(), entryAt("https://provider.example/token", "none"), provider.Credentials{ClientID: "id"}, refreshRequest())
		if a.Verdict != provider.VerdictConfigError || a.ResponseLost || !strings.Contains(a.Detail, "address") {
			t.Errorf("%s: %+v", address, a)
		}
	}
}

func addressesThatAreNotDialled(t *testing.T) {
	private := provider.NewTransport(provider.TransportOptions{AllowPrivate: true})
	plain := provider.NewTransport(provider.TransportOptions{})
	for _, host := range []string{
		"127.0.0.1", "::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "169.254.169.254", "fe80::1", "fd00:ec2::254",
		"fd00::1", "192.168.0.1", "172.16.0.1", "100.64.0.1", "0.0.0.0", "::", "240.0.0.1", "198.18.0.1",
		"64:ff9b::a9fe:a9fe", "2002:7f00:1::", "::7f00:1", "::ffff:0:127.0.0.1", "fec0::1", "100.100.100.200", "168.63.129.16",
	} {
		for name, tr := range map[string]*http.Transport{"plain": plain, "private": private} {
			a := netip.MustParseAddr(host).Unmap()
			if name == "private" && (a.IsPrivate() && host != "fd00:ec2::254" || host == "100.64.0.1") {
				continue // these are allowed there
			}
			ctx, cancel := context.WithCancel(t.Context())
			conn, err := tr.DialContext(ctx, "tcp", net.JoinHostPort(host, "443"))
			cancel()
			if err == nil {
				conn.Close()
			}
			if err == nil || !strings.Contains(err.Error(), "not one that a provider may have") {
				t.Errorf("%s: %s: %v", name, host, err)
			}
		}
	}
}

func transportSpeaksHTTP1WithoutProxy(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 1 {
			t.Errorf("spoken: %s", r.Proto)
		}
		_, _ = io.WriteString(w, `{"access_token":"at"}`)
	}))
	s.EnableHTTP2 = true
	s.StartTLS()
	defer s.Close()
	trusting := s.Client().Transport.(*http.Transport).TLSClientConfig
	tr := provider.NewTransport(provider.TransportOptions{AllowLoopback: true, TLS: trusting})
	if tr.Proxy != nil || tr.ForceAttemptHTTP2 || !tr.DisableCompression {
		t.Errorf("%+v", tr)
	}
	c := &provider.Client{Transport: tr}
	if a := c.Token(t.Context(), entryAt(s.URL, "none"), provider.Credentials{ClientID: "id"}, refreshRequest()); a.Verdict != provider.VerdictOK {
		t.Errorf("%+v", a)
	}
	tr.CloseIdleConnections()
}
