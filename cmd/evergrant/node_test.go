package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/config/yamlfile"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/secret"
	"github.com/evergrant/evergrant/internal/wire"
)

func TestTheOriginIsTheAddressOnLoopbackOnly(t *testing.T) {
	loopback := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80}
	anywhere := &net.TCPAddr{IP: net.IPv4zero, Port: 80}
	c, err := withOrigin(&config.Config{}, loopback)
	if err != nil || c.PublicURL != "http://127.0.0.1:80" {
		t.Errorf("loopback: %+v, %v", c, err)
	}
	if _, err := withOrigin(&config.Config{}, anywhere); err == nil {
		t.Error("an origin was made up for an address that is not one")
	}
	named := &config.Config{PublicURL: "https://auth.example.com"}
	if c, err := withOrigin(named, anywhere); err != nil || c.PublicURL != named.PublicURL {
		t.Errorf("named: %+v, %v", c, err)
	}
}

func TestTheRestoreEpochIsAWholeNumberOrAbsent(t *testing.T) {
	path := filepath.Join(t.TempDir(), epochFile)
	if n, err := readEpoch(path); n != 0 || err != nil {
		t.Errorf("absent: %d, %v", n, err)
	}
	for text, want := range map[string]int64{"0": 0, "3\n": 3, "": -1, "-1": -1, "three": -1} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		n, err := readEpoch(path)
		if want < 0 && err == nil || want >= 0 && (n != want || err != nil) {
			t.Errorf("%q: %d, %v", text, n, err)
		}
	}
}

func TestAnAPIKeyOfDevIsKeptAndGuarded(t *testing.T) {
	data := filepath.Join(t.TempDir(), "dev")
	key, err := devKey(data)
	if err != nil {
		t.Fatal(err)
	}
	again, err := devKey(data)
	if err != nil || !again.Equal(key) {
		t.Errorf("the key did not stay: %v", err)
	}
	path := filepath.Join(data, devKeyFile)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := devKey(data); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key that others may read: %v", err)
	}
}

// TestTermSavesWhatTheProviderAnswers: told to end, the server waits for the refresh
// under way, and the next one finds it saved.
func TestTermSavesWhatTheProviderAnswers(t *testing.T) {
	t.Parallel()
	provider, sims := startInterrupted(t)
	d := newDeployment(t, sims)
	d.start()
	t.Cleanup(func() { d.kill() })
	who, err := newPerson("alice")
	if err != nil {
		t.Fatal(err)
	}
	conn := d.connect(who, "ada")
	struck := provider.arm("/oauth/token", held, 1)
	ended := make(chan error, 1)
	go func() { ended <- d.refresh(conn) }()
	<-struck
	if err := d.process.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	d.await(func() error { // it takes nothing new
		c, err := net.Dial("tcp", d.address)
		if err == nil {
			_ = c.Close() // it was let in
			return errors.New("still listening")
		}
		return nil
	})
	close(provider.release)
	if err := <-ended; err != nil {
		t.Errorf("the refresh under way: %v", err)
	}
	if err := d.process.Wait(); err != nil {
		t.Errorf("the server ended badly: %v", err)
	}
	provider.arm("", never, 0)
	d.start()
	var now wire.Connection
	if err := d.call(http.MethodGet, "/v1/connections/"+conn.ID, nil, &now); err != nil {
		t.Fatal(err)
	}
	if now.Generation != conn.Generation+1 || now.Status != "active" {
		t.Errorf("%s, generation %d after %d", now.Status, now.Generation, conn.Generation)
	}
}

// TestOversizedRescueIsSetAside: it is tried once, told once, and again where somebody
// asks for it.
func TestOversizedRescueIsSetAside(t *testing.T) {
	st := openStage(t)
	const id = "conn_AAAAAAAAAAAAAAAAAAAAAAAAAAA"
	store := st.node.db.Connections()
	if _, err := store.Update(t.Context(), id, connection.Create{Record: connection.Record{Core: connection.Core{
		ID: id, Integration: "redbooth", Owner: "ada", Status: connection.Active, Gen: 1, TokGen: 1, Refresh: "old",
	}}}.Update()); err != nil {
		t.Fatal(err)
	}
	record, err := json.Marshal(map[string]any{"Kind": "save", "ID": id, "Gen": 1, "SaveID": "s", "Refresh": make([]byte, item.MaxSize)})
	if err != nil {
		t.Fatal(err)
	}
	if err := st.node.rescue.Put(t.Context(), id, record); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	st.node.broker.Log = slog.New(slog.NewJSONHandler(&log, nil))
	for range 3 {
		st.node.replay(t.Context(), false)
	}
	if n := strings.Count(log.String(), "set aside"); n != 1 || !st.node.rescue.Holds(id) {
		t.Errorf("told %d times, still held: %v\n%s", n, st.node.rescue.Holds(id), &log)
	}
	if _, err := st.node.replayNow(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(log.String(), "set aside"); n != 2 {
		t.Errorf("told %d times after it was asked for\n%s", n, &log)
	}
}

// TestRescuedAnswersAreReplayed with a record that holds no token to revoke.
func TestRescuedAnswersAreReplayed(t *testing.T) {
	st := openStage(t)
	const id = "conn_AAAAAAAAAAAAAAAAAAAAAAAAAAA"
	if err := st.node.rescue.Put(t.Context(), id, []byte(`{"Kind":"revoke","ID":"`+id+`","Integration":"redbooth","ClientID":"dev-redbooth","Gen":1}`)); err != nil {
		t.Fatal(err)
	}
	if !st.node.rescue.Holds(id) {
		t.Fatal("the record is not held")
	}
	st.node.replay(t.Context(), false)
	if st.node.rescue.Holds(id) {
		t.Error("the record was not replayed")
	}
}

var _ = mutant("T72", "cmd/evergrant/dev.go", `if !isLoopback(host) {`, `if host == "" {`)

// TestThreat_T72_dev_is_on_loopback_only: what is there for debugging protects nothing.
// internal/app tests that no function links the simulators or a profiler.
func TestThreat_T72_dev_is_on_loopback_only(t *testing.T) {
	for _, address := range []string{"0.0.0.0:0", ":0", "[::]:0", "192.0.2.7:0", "auth.example.com:0"} {
		main, second, err := (&devCommand{Listen: address}).listen()
		if err == nil {
			t.Errorf("dev listens on %s", address)
			_ = main.Close()
			_ = second.Close()
			continue
		}
		if !strings.Contains(err.Error(), "this machine only") {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// A lost or wrong wrapping key ends the start with what to do, and nothing is made or changed.
func TestServeRefusesAStoreWhoseKeyIsAnother(t *testing.T) {
	settings, err := yamlfile.Parse([]byte("public_url: https://auth.example.com\nintegrations:\n  askfred: {client_id: a, client_secret: \"${env:A}\", return_to: [\"https://app.example.com/x\"]}\n"))
	if err != nil {
		t.Fatal(err)
	}
	data := t.TempDir()
	open := func(key secret.Text) error {
		n, err := openNode(nodeConfig{
			Settings: settings, Data: data, WrappingKey: key, Now: time.Now, Log: slog.New(slog.DiscardHandler), Secrets: config.FileResolver(func(string) string { return "x" }, os.ReadFile),
		})
		if err != nil {
			return err
		}
		_, err = n.broker.RotateKeys(t.Context())
		return errors.Join(err, n.close())
	}
	if err := open(secret.Text{}); err != nil {
		t.Fatal(err)
	}
	path, other := filepath.Join(data, keyFile), secret.New(strings.Repeat("07", 32))
	if err := open(other); err == nil || !strings.Contains(err.Error(), "put the right one back") {
		t.Errorf("another key: %v", err)
	}
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	if err := open(secret.Text{}); err == nil || !strings.Contains(err.Error(), "put it back") {
		t.Errorf("no key: %v", err)
	}
	if !absent(path) {
		t.Error("a key was made")
	}
	if err := os.Rename(path+".away", path); err != nil {
		t.Fatal(err)
	}
	if err := open(secret.Text{}); err != nil {
		t.Errorf("the key is back: %v", err)
	}
}

// T51: a backup that was restored is known as one until the restore epoch was raised.
func TestARestoredStoreIsKnown(t *testing.T) {
	settings, err := yamlfile.Parse([]byte("public_url: https://auth.example.com\nintegrations:\n  askfred: {client_id: a, client_secret: \"${env:A}\", return_to: [\"https://app.example.com/x\"]}\n"))
	if err != nil {
		t.Fatal(err)
	}
	data := t.TempDir()
	run := func(do func(n *node)) (moved bool) {
		t.Helper()
		n, err := openNode(nodeConfig{
			Settings: settings, Data: data, Now: time.Now, Log: slog.New(slog.DiscardHandler), Secrets: config.FileResolver(func(string) string { return "x" }, os.ReadFile),
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := n.broker.Tick(t.Context(), time.Now().Unix()/60); err != nil {
			t.Fatal(err)
		}
		do(n)
		d, err := n.broker.Diagnose(t.Context())
		if err := errors.Join(err, n.close()); err != nil {
			t.Fatal(err)
		}
		if d.LastTick == 0 {
			t.Error("no tick is known")
		}
		return d.Moved
	}
	nothing := func(*node) {}
	for range 2 {
		if run(nothing) {
			t.Fatal("a store that stayed where it is counts as restored")
		}
	}
	store := filepath.Join(data, storeFile)
	backup, err := os.ReadFile(store)
	if err == nil {
		err = os.WriteFile(store+".restored", backup, 0o600)
	}
	if err == nil {
		err = os.Rename(store+".restored", store)
	}
	if err != nil {
		t.Fatal(err)
	}
	raise := func(n *node) {
		if _, err := n.raiseEpoch(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if !run(nothing) || !run(raise) { // it counts from the next start
		t.Error("a restored store is not known as one")
	}
	if run(nothing) {
		t.Error("the raised epoch does not settle it")
	}
}
