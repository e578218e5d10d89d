//go:build unix

package boltstore_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/evergrant/evergrant/internal/boltstore"
	"github.com/evergrant/evergrant/internal/item"
)

// childPath names the file that a child process works on: the test binary run again.
const childPath = "EVERGRANT_TEST_BOLT_CHILD"

func TestMain(m *testing.M) {
	path := os.Getenv(childPath)
	if path == "" {
		os.Exit(m.Run())
	}
	var err error
	if os.Args[1] == "full" {
		err = fillUp(path)
	} else {
		err = writeForEver(path, os.Args[1])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// writeForEver writes from 16 goroutines and prints each key once its write is said to be durable.
func writeForEver(path, run string) error {
	db, err := boltstore.Open(path, boltstore.Options{})
	if err != nil {
		return err
	}
	ended := make(chan error)
	for w := range 16 {
		go func() {
			for n := 0; ; n++ {
				key := fmt.Sprintf("%s-%d-%d", run, w, n)
				if err := write(context.Background(), db, key, n%3000); err != nil {
					ended <- err
				}
			}
		}()
	}
	return <-ended
}

// child starts the test binary as a process that works on path.
func child(t *testing.T, path, argument string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], argument)
	cmd.Env = append(os.Environ(), childPath+"="+path)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, bufio.NewScanner(out)
}

func TestKilledProcessLosesNoAcknowledgedWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "evergrant.db")
	var acknowledged []string
	for round := range 3 {
		cmd, lines := child(t, path, fmt.Sprint(round))
		for until := len(acknowledged) + 500; lines.Scan(); {
			acknowledged = append(acknowledged, lines.Text())
			if len(acknowledged) == until {
				if err := cmd.Process.Kill(); err != nil { // SIGKILL, in the midst of a commit
					t.Fatal(err)
				}
			}
		}
		if err := cmd.Wait(); err == nil || lines.Err() != nil {
			t.Fatalf("round %d: %v, %v", round, err, lines.Err())
		}
		checkWhole(t, path, acknowledged)
	}
}

// checkWhole demands that the file holds the keys, and that its index agrees with its items.
func checkWhole(t *testing.T, path string, keys []string) {
	t.Helper()
	db, err := boltstore.Open(path, boltstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer closeDB(t, db)
	for _, key := range keys {
		if !has(t, db.Connections(), key) {
			t.Errorf("acknowledged write %s is lost", key)
		}
	}
	items, err := db.Connections().Scan(t.Context(), "", 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	indexed, err := db.Connections().Query(t.Context(), item.Query{Index: item.IndexByOwner, Hash: "o", Limit: 1 << 30})
	if err != nil || len(indexed.Keys) != len(items.Keys) || len(items.Keys) < len(keys) {
		t.Errorf("%d items, %d in the index, %d acknowledged, %v", len(items.Keys), len(indexed.Keys), len(keys), err)
	}
}

func TestSecondProcessIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "evergrant.db")
	cmd, lines := child(t, path, "holder")
	if !lines.Scan() {
		t.Fatal("the holder wrote nothing")
	}
	if _, err := boltstore.Open(path, boltstore.Options{}); !errors.Is(err, boltstore.ErrInUse) {
		t.Errorf("error %v", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
}

// TestFullDisk has a child whose files cannot grow: what the disk cannot take is an
// error and not there, Writable says so beforehand, and room heals it.
func TestFullDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "evergrant.db")
	cmd, lines := child(t, path, "full")
	var acknowledged []string
	for lines.Scan() {
		acknowledged = append(acknowledged, lines.Text())
	}
	if err := cmd.Wait(); err != nil || len(acknowledged) < 10 {
		t.Fatalf("the child ended by %v after %d writes", err, len(acknowledged))
	}
	checkWhole(t, path, acknowledged)
}

// fillUp writes until its file cannot grow, then with room again.
func fillUp(path string) error {
	signal.Ignore(syscall.SIGXFSZ)
	db, err := boltstore.Open(path, boltstore.Options{})
	if err != nil {
		return err
	}
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		return err
	}
	const room = 1 << 20
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: room, Max: old.Max}); err != nil {
		return err
	}
	ctx := context.Background()
	for n := 0; db.Writable(ctx) == nil; n++ {
		if n > room/recordSize {
			return errors.New("a full disk is said to be writable")
		}
		if err := write(ctx, db, fmt.Sprintf("conn_%d", n), recordSize); err != nil {
			return fmt.Errorf("after Writable saw room: %w", err)
		}
	}
	if err := write(ctx, db, "large", 300<<10); err == nil {
		return errors.New("a full disk took a large record")
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		return err
	}
	return errors.Join(db.Writable(ctx), write(ctx, db, "healed", 300<<10), db.Close())
}

// recordSize is of a large record, whose tokens are JWTs.
const recordSize = 4 << 10

// write stores a record and prints its key; where it cannot, nothing must be there.
func write(ctx context.Context, db *boltstore.DB, key string, size int) error {
	_, err := db.Connections().Update(ctx, key, create(item.Item{
		"owner": "o", "integration_id": key, "at": item.Bytes(strings.Repeat("x", size)),
	}))
	found, getErr := db.Connections().Get(ctx, key)
	if getErr != nil || (found == nil) != (err != nil) {
		return fmt.Errorf("write of %s: %v, then found %t, %w", key, err, found != nil, getErr)
	}
	if err == nil {
		fmt.Println(key)
	}
	return err
}
