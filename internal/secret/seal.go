package secret

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
)

// A sealed value is
//
//	version 1 byte | purpose 1 byte | key number, uvarint | salt 16 | nonce 12 | ciphertext | tag 16
//
// which for the first 127 keys adds 47 bytes to the secret.
const (
	sealVersion = 1
	saltSize    = 16
	nonceSize   = 12
	tagSize     = 16

	// sealInfo tells the keys of sealed values from all else that may ever be derived
	// from a data key (RFC 5869, section 3.2).
	sealInfo = "evergrant sealed value 1"
)

// Place is where a sealed value is stored. The value opens at that place only.
type Place struct {
	Table string // "connections", "authorizations"
	ID    string // key of the item
	Gen   int64  // generation that the value belongs to, 0 where there are none
	Field string // attribute, or attribute and member
}

// Seal encrypts t for its place under the primary key of the purpose. It does no I/O,
// so that nothing between a provider's answer and its storage can fail for want of a
// key; ErrNotLoaded without Load.
func (k *Keyring) Seal(p Purpose, at Place, t Text) ([]byte, error) {
	n := k.Primary(p)
	d, ok := k.known(p, n)
	if !ok {
		return nil, fmt.Errorf("%w: purpose %s", ErrNotLoaded, p)
	}
	header := binary.AppendUvarint([]byte{sealVersion, purposeByte(p)}, uint64(n))
	sealed := make([]byte, len(header)+saltSize+nonceSize, len(header)+saltSize+nonceSize+t.Len()+tagSize)
	copy(sealed, header)
	// The key is used for this value alone, so a fixed nonce would do as long as no
	// salt repeats. A random one costs 12 bytes and spares us to rely on that: both
	// would have to repeat at once.
	random := sealed[len(header):]
	_, _ = rand.Read(random) // never fails since Go 1.24: it ends the program instead
	aead, err := valueCipher(d.plain, random[:saltSize])
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return aead.Seal(sealed, random[saltSize:], []byte(t.Reveal()), k.additionalData(header, at)), nil
}

// Open decrypts a value that Seal made for the same deployment, purpose and place. A
// key that is not in memory is fetched by its number once. The error is ErrSealed or
// ErrKeyUnavailable.
func (k *Keyring) Open(ctx context.Context, p Purpose, at Place, sealed []byte) (Text, error) {
	n, header, rest, err := parse(sealed)
	if err != nil {
		return Text{}, err
	}
	if header[1] != purposeByte(p) {
		return Text{}, fmt.Errorf("%w: it is not of purpose %s", ErrSealed, p)
	}
	key, err := k.key(ctx, p, n)
	if err != nil {
		return Text{}, err
	}
	aead, err := valueCipher(key, rest[:saltSize])
	if err != nil {
		return Text{}, fmt.Errorf("open: %w", err)
	}
	nonce, ciphertext := rest[saltSize:saltSize+nonceSize], rest[saltSize+nonceSize:]
	plain, err := aead.Open(nil, nonce, ciphertext, k.additionalData(header, at))
	if err != nil {
		return Text{}, fmt.Errorf("%w at its place %s %s", ErrSealed, at.Table, at.Field)
	}
	return New(string(plain)), nil
}

// KeyOf tells from the header alone which key a value was sealed under; ErrSealed
// where it has no header.
func (*Keyring) KeyOf(sealed []byte) (Purpose, int64, error) {
	n, header, _, err := parse(sealed)
	if err != nil {
		return "", 0, err
	}
	return purposeOf(header[1]), n, nil
}

// parse splits a sealed value into its header, which names the key n, and the rest,
// which is at least a salt, a nonce and a tag.
func parse(sealed []byte) (n int64, header, rest []byte, err error) {
	if len(sealed) < 2 || sealed[0] != sealVersion || purposeOf(sealed[1]) == "" {
		return 0, nil, nil, fmt.Errorf("%w: unknown format", ErrSealed)
	}
	u, used := binary.Uvarint(sealed[2:])
	if used <= 0 || u == 0 || u > math.MaxInt64 {
		return 0, nil, nil, fmt.Errorf("%w: key number is not valid", ErrSealed)
	}
	header, rest = sealed[:2+used], sealed[2+used:]
	if len(rest) < saltSize+nonceSize+tagSize {
		return 0, nil, nil, fmt.Errorf("%w: too short", ErrSealed)
	}
	return int64(u), header, rest, nil
}

// additionalData binds the header, the deployment and the place. Each part is of
// fixed length or preceded by its length, so no two places give the same bytes.
func (k *Keyring) additionalData(header []byte, at Place) []byte {
	var b []byte
	for _, part := range []string{string(header), k.deployment, at.Table, at.ID, at.Field} {
		b = binary.AppendUvarint(b, uint64(len(part)))
		b = append(b, part...)
	}
	return binary.BigEndian.AppendUint64(b, uint64(at.Gen))
}

// valueCipher is AES-256-GCM under the key of one value, derived from the data key by
// HKDF-SHA256 (RFC 5869).
func valueCipher(key Text, salt []byte) (cipher.AEAD, error) {
	derived, err := hkdf.Key(sha256.New, []byte(key.Reveal()), salt, sealInfo, keySize)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// purposeByte is the purpose in a header, 0 for an unknown one. The bytes are stored:
// they never change.
func purposeByte(p Purpose) byte {
	switch p {
	case PurposeFlow:
		return 'f'
	case PurposeToken:
		return 't'
	}
	return 0
}

func purposeOf(b byte) Purpose {
	switch b {
	case 'f':
		return PurposeFlow
	case 't':
		return PurposeToken
	}
	return ""
}
