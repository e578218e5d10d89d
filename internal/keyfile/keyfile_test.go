package keyfile_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/evergrant/evergrant/internal/keyfile"
	"github.com/evergrant/evergrant/internal/secret"
)

// mutant declares a change that takes the defence of a threat out; tools/mutants reads it.
func mutant(_, _, _, _ string) bool { return true }

func open(t *testing.T, path, deployment string) *keyfile.Wrapper {
	t.Helper()
	w, err := keyfile.Open(path, deployment)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func wrap(t *testing.T, w *keyfile.Wrapper, p secret.Purpose, plain []byte) []byte {
	t.Helper()
	b, err := w.Wrap(t.Context(), p, plain)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustUnwrap(t *testing.T, w *keyfile.Wrapper, p secret.Purpose, wrapped, want []byte) {
	t.Helper()
	got, err := w.Unwrap(t.Context(), p, wrapped)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("unwrapped %d bytes: %v", len(got), err)
	}
}

func mustNotUnwrap(t *testing.T, how string, w *keyfile.Wrapper, p secret.Purpose, wrapped []byte) {
	t.Helper()
	if got, err := w.Unwrap(t.Context(), p, wrapped); err == nil || got != nil {
		t.Errorf("%s: unwrapped %d bytes", how, len(got))
	}
}

func dataKey() []byte { return bytes.Repeat([]byte{7}, 32) }

func TestANewFileHoldsAKeyForItsOwnerAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "evergrant.key")
	wrapped := wrap(t, open(t, path, "d"), secret.PurposeToken, dataKey())
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	mustUnwrap(t, open(t, path, "d"), secret.PurposeToken, wrapped, dataKey())

	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	fromText, err := keyfile.FromText(secret.New(string(text)), "d")
	if err != nil {
		t.Fatal(err)
	}
	mustUnwrap(t, fromText, secret.PurposeToken, wrapped, dataKey())
}

func TestTwoNewFilesHoldDifferentKeys(t *testing.T) {
	dir := t.TempDir()
	a, b := open(t, filepath.Join(dir, "a"), "d"), open(t, filepath.Join(dir, "b"), "d")
	mustNotUnwrap(t, "another file's key", b, secret.PurposeToken, wrap(t, a, secret.PurposeToken, dataKey()))
}

var _ = mutant("T73", "internal/keyfile/keyfile.go", `if mode := info.Mode().Perm(); mode&0o077 != 0 {`, `if mode := info.Mode().Perm(); mode&0o002 != 0 {`)

func TestThreat_T73_a_key_file_open_to_others_is_refused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "it's a key")
	open(t, path, "d")
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o602, 0o610, 0o644, 0o666, 0o777} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := keyfile.Open(path, "d")
		if err == nil {
			t.Fatalf("mode %04o was taken", mode)
		}
		want := "chmod 600 '" + strings.ReplaceAll(path, "'", `'\''`) + "'"
		if !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), fmt.Sprintf("%04o", mode)) {
			t.Errorf("mode %04o: the error does not tell how to mend it: %v", mode, err)
		}
	}
	for _, mode := range []os.FileMode{0o600, 0o400} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		open(t, path, "d")
	}
}

func TestAFileWithoutExactlyOneKeyIsRefusedAndKept(t *testing.T) {
	key := bytes.Repeat([]byte{0xfb}, 32)
	good := base64.StdEncoding.EncodeToString(key)
	for name, text := range map[string]string{
		"nothing": "", "a torn line": good[:20], "two keys": good + "\n" + good, "raw bytes": string(key),
		"31 bytes": base64.StdEncoding.EncodeToString(key[1:]), "33 bytes": base64.StdEncoding.EncodeToString(append([]byte{1}, key...)),
		"bad hex": strings.Repeat("zz", 32), "a long file": strings.Repeat(good, 100), "no base64": strings.Repeat("*", 44),
	} {
		path := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := keyfile.Open(path, "d")
		if err == nil {
			t.Fatalf("%s was taken for a key", name)
		}
		if !strings.Contains(err.Error(), "32 bytes in base64 or hex") || strings.Contains(err.Error(), good[:20]) {
			t.Errorf("%s: %v", name, err)
		}
		if kept, err := os.ReadFile(path); err != nil || string(kept) != text {
			t.Errorf("%s: the file was changed: %v", name, err)
		}
	}
}

func TestWhatIsNoFileIsRefused(t *testing.T) {
	dir := t.TempDir()
	if _, err := keyfile.Open(dir, "d"); err == nil {
		t.Error("a folder was taken for a key file")
	}
	if _, err := keyfile.Open(filepath.Join(dir, "no", "key"), "d"); err == nil {
		t.Error("a key was made in a folder that is not there")
	}
}

func TestAKeyIsReadInEveryUsualSpelling(t *testing.T) {
	key := bytes.Repeat([]byte{0xfb, 0xff, 0x01, 0x7e}, 8)
	var first *keyfile.Wrapper
	for _, text := range []string{
		base64.StdEncoding.EncodeToString(key), base64.RawStdEncoding.EncodeToString(key),
		base64.URLEncoding.EncodeToString(key), base64.RawURLEncoding.EncodeToString(key),
		hex.EncodeToString(key), strings.ToUpper(hex.EncodeToString(key)), " " + hex.EncodeToString(key) + "\r\n",
	} {
		w, err := keyfile.FromText(secret.New(text), "d")
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = w
		}
		mustUnwrap(t, first, secret.PurposeFlow, wrap(t, w, secret.PurposeFlow, dataKey()), dataKey())
	}
}

func TestAnErrorDoesNotQuoteTheKey(t *testing.T) {
	for _, text := range []string{"", "CANARY", "CANARY" + strings.Repeat("A", 58), strings.Repeat("CANARY", 20)} {
		_, err := keyfile.FromText(secret.New(text), "d")
		if err == nil {
			t.Fatalf("%d characters were taken for a key", len(text))
		}
		if strings.Contains(err.Error(), "CANARY") || strings.Contains(err.Error(), "U+") {
			t.Errorf("%v", err)
		}
	}
}

func TestAWrappedKeyIsBoundToDeploymentAndPurpose(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	w := open(t, path, "d")
	wrapped := wrap(t, w, secret.PurposeFlow, dataKey())
	mustNotUnwrap(t, "another purpose", w, secret.PurposeToken, wrapped)
	mustNotUnwrap(t, "another deployment", open(t, path, "e"), secret.PurposeFlow, wrapped)
	mustNotUnwrap(t, "a shifted border", open(t, path, "df"), "low", wrapped)
	for i := range wrapped {
		b := bytes.Clone(wrapped)
		b[i] ^= 0x10
		mustNotUnwrap(t, fmt.Sprintf("byte %d changed", i), w, secret.PurposeFlow, b)
		mustNotUnwrap(t, fmt.Sprintf("cut to %d bytes", i), w, secret.PurposeFlow, wrapped[:i])
	}
	if again := wrap(t, w, secret.PurposeFlow, dataKey()); bytes.Equal(again, wrapped) {
		t.Error("wrapping twice gives the same bytes")
	}
}

func TestAWrapperDoesNotPrintItsKey(t *testing.T) {
	key := bytes.Repeat([]byte{0xab}, 32)
	w, err := keyfile.FromText(secret.New(hex.EncodeToString(key)), "d")
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		out := fmt.Sprintf(verb+verb, w, struct{ w *keyfile.Wrapper }{w})
		if strings.Contains(out, "abab") || strings.Contains(out, "171 171") {
			t.Errorf("%s prints the key: %s", verb, out)
		}
	}
}
