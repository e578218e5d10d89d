package secret

import (
	"crypto/ecdh"
	"crypto/hpke"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// A transfer key is a pair that an operator makes for one move from one deployment to
// another: whoever has its public half can seal, and only its private half opens. It is
// X25519 with HKDF-SHA256 and AES-256-GCM, by HPKE (RFC 9180).
const (
	transferPrivate = "evgmove_"
	transferPublic  = "evgmovepub_"
	transferInfo    = "evergrant transfer v1 "
)

// ErrTransferKey says that a text is no transfer key, or not the right half of one.
var ErrTransferKey = errors.New("not a transfer key")

// ErrTransfer says that a value does not open: it was changed, or sealed for another key
// or another place.
var ErrTransfer = errors.New("sealed value does not open with this transfer key")

// NewTransferKey makes a transfer key.
func NewTransferKey() (private Text, public string, err error) {
	key, err := hpke.DHKEM(ecdh.X25519()).GenerateKey()
	if err != nil {
		return Text{}, "", fmt.Errorf("transfer key: %w", err)
	}
	b, err := key.Bytes()
	if err != nil {
		return Text{}, "", fmt.Errorf("transfer key: %w", err)
	}
	return New(transferPrivate + base64.RawURLEncoding.EncodeToString(b)), publicText(key.PublicKey()), nil
}

func publicText(key hpke.PublicKey) string {
	return transferPublic + base64.RawURLEncoding.EncodeToString(key.Bytes())
}

// TransferPublic is the public half of a transfer key. ErrTransferKey.
func TransferPublic(private Text) (string, error) {
	key, err := transferKey(private)
	if err != nil {
		return "", err
	}
	return publicText(key.PublicKey()), nil
}

func transferKey(private Text) (hpke.PrivateKey, error) {
	text, ok := strings.CutPrefix(private.Reveal(), transferPrivate)
	b, err := base64.RawURLEncoding.DecodeString(text)
	if !ok || err != nil {
		return nil, ErrTransferKey
	}
	key, err := hpke.DHKEM(ecdh.X25519()).NewPrivateKey(b)
	if err != nil {
		return nil, ErrTransferKey
	}
	return key, nil
}

// SealTransfer seals text for the holder of the private half. place is what the text is
// and binds it: it opens there alone. ErrTransferKey.
func SealTransfer(public, place string, text Text) ([]byte, error) {
	encoded, ok := strings.CutPrefix(public, transferPublic)
	b, err := base64.RawURLEncoding.DecodeString(encoded)
	if !ok || err != nil {
		return nil, ErrTransferKey
	}
	key, err := hpke.DHKEM(ecdh.X25519()).NewPublicKey(b)
	if err != nil {
		return nil, ErrTransferKey
	}
	sealed, err := hpke.Seal(key, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(transferInfo+place), []byte(text.Reveal()))
	if err != nil {
		return nil, fmt.Errorf("seal for transfer: %w", err)
	}
	return sealed, nil
}

// OpenTransfer opens what SealTransfer sealed. ErrTransferKey, ErrTransfer.
func OpenTransfer(private Text, place string, sealed []byte) (Text, error) {
	key, err := transferKey(private)
	if err != nil {
		return Text{}, err
	}
	text, err := hpke.Open(key, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(transferInfo+place), sealed)
	if err != nil {
		return Text{}, ErrTransfer
	}
	return New(string(text)), nil
}
