package main

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
)

// sumsName is the file with the checksums of all other files.
const sumsName = "SHA256SUMS"

// sign writes the Ed25519 signature of a file beside it, as NAME.sig: 64 bytes, for openssl
// pkeyutl -verify -rawin. It is deterministic.
func sign(keyFile, file string) error {
	text, err := os.ReadFile(keyFile)
	if err != nil {
		return fmt.Errorf("read the key that signs: %w", err)
	}
	key, err := parseSigningKey(text)
	if err != nil {
		return fmt.Errorf("read the key that signs %s: %w", file, err)
	}
	message, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return os.WriteFile(file+".sig", ed25519.Sign(key, message), 0o644)
}

// parseSigningKey reads a key in the format of openssl genpkey -algorithm ed25519. Its errors do
// not contain the key.
func parseSigningKey(text []byte) (ed25519.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("it is not PEM")
	}
	any, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("it is not a PKCS #8 private key")
	}
	key, ok := any.(ed25519.PrivateKey)
	if !ok {
		return nil, errors.New("it is not an Ed25519 key")
	}
	return key, nil
}
