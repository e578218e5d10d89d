// Package keyfile wraps data keys under a key of 256 bits that stands in a file or in
// a setting. It takes the place of a key management service where there is none.
//
// The file holds the key as one line of base64 and is readable by its owner alone;
// any wider mode is refused, not mended, since the key may have been read already and
// its owner should know. Who loses the key loses every token sealed under it, so it
// belongs in a backup, apart from that of the data.
package keyfile

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/evergrant/evergrant/internal/secret"
)

const (
	keySize = 32
	// maxFile is more than any valid key file holds, in bytes.
	maxFile = 1024

	// wrapVersion begins what Wrap returns; the nonce and the ciphertext follow.
	wrapVersion = 1
	// wrapLabel begins the additional data.
	wrapLabel = "evergrant data key 1"
)

// errNotKey says what a key must be. It tells nothing of what was there instead.
var errNotKey = errors.New("not a key: 32 bytes in base64 or hex are expected")

// errSealed hides nothing: GCM has one error only.
var errSealed = errors.New("wrapped key does not open under this key, deployment and purpose")

// Wrapper is a wrapping key bound to a deployment. Its methods may be called
// concurrently.
type Wrapper struct {
	aead       cipher.AEAD
	deployment string
}

var _ secret.KeyWrapper = (*Wrapper)(nil)

// Open reads the key file at path, or makes one with a new key where there is none.
// It refuses a file that others than its owner may read, and one that does not hold
// exactly one key.
func Open(path, deployment string) (*Wrapper, error) {
	key, err := read(path)
	if errors.Is(err, fs.ErrNotExist) {
		key, err = create(path)
	}
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	return newWrapper(key, deployment)
}

// FromText makes a wrapper of a key in base64 (standard or URL alphabet, padded or
// not) or in hex. Its error does not quote the text.
func FromText(text secret.Text, deployment string) (*Wrapper, error) {
	key, err := parse(text.Reveal())
	if err != nil {
		return nil, err
	}
	return newWrapper(key, deployment)
}

func newWrapper(key []byte, deployment string) (*Wrapper, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	return &Wrapper{aead: aead, deployment: deployment}, nil
}

// Wrap implements secret.KeyWrapper. Its nonces are random: so few keys are ever
// wrapped that none repeats.
func (w *Wrapper) Wrap(_ context.Context, p secret.Purpose, plain []byte) ([]byte, error) {
	b := make([]byte, 1+w.aead.NonceSize(), 1+w.aead.NonceSize()+len(plain)+w.aead.Overhead())
	b[0] = wrapVersion
	_, _ = rand.Read(b[1:]) // never fails since Go 1.24: it ends the program instead
	return w.aead.Seal(b, b[1:], plain, w.additionalData(p)), nil
}

// Unwrap implements secret.KeyWrapper.
func (w *Wrapper) Unwrap(_ context.Context, p secret.Purpose, wrapped []byte) ([]byte, error) {
	size := w.aead.NonceSize()
	if len(wrapped) < 1+size || wrapped[0] != wrapVersion {
		return nil, errSealed
	}
	plain, err := w.aead.Open(nil, wrapped[1:1+size], wrapped[1+size:], w.additionalData(p))
	if err != nil {
		return nil, errSealed
	}
	return plain, nil
}

func (w *Wrapper) additionalData(p secret.Purpose) []byte {
	var b []byte
	for _, part := range []string{wrapLabel, w.deployment, string(p)} {
		b = binary.AppendUvarint(b, uint64(len(part)))
		b = append(b, part...)
	}
	return b
}

// read returns the key in the file at path. The mode is asked of the open file, so
// that it is the mode of what is read.
func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("%s is open to others than its owner (mode %04o); if nobody else has read it: chmod 600 %s",
			path, mode, shellQuoted(path))
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return nil, err
	}
	key, err := parse(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s (%d bytes): %w; restore it from a backup, or delete it if this deployment has stored nothing yet",
			path, info.Size(), err)
	}
	return key, nil
}

// create makes the file with a new key. Nothing is sealed under the key before the
// file and its name are on disk; so what a crash leaves here, a file without a whole
// key, has sealed nothing and is safe to delete.
func create(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	key := make([]byte, keySize)
	_, _ = rand.Read(key) // never fails since Go 1.24: it ends the program instead
	_, err = f.WriteString(base64.StdEncoding.EncodeToString(key) + "\n")
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return nil, errors.Join(err, os.Remove(path))
	}
	return key, syncDir(filepath.Dir(path))
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func parse(text string) ([]byte, error) {
	text = strings.TrimSpace(text)
	if len(text) == hex.EncodedLen(keySize) {
		key, err := hex.DecodeString(text)
		if err != nil {
			return nil, errNotKey // the cause would quote a character of the key
		}
		return key, nil
	}
	text = strings.TrimRight(strings.NewReplacer("-", "+", "_", "/").Replace(text), "=")
	key, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil || len(key) != keySize {
		return nil, errNotKey
	}
	return key, nil
}

// shellQuoted is s as one word of a POSIX shell.
func shellQuoted(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
