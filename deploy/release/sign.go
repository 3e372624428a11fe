package main

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
)

// sumsName is the file with the checksums of all others.
const sumsName = "SHA256SUMS"

// sign writes the Ed25519 signature of a file beside it, as NAME.sig: the 64 bytes that
// openssl pkeyutl -verify -rawin takes. The same key and file make the same bytes.
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

// parseSigningKey reads a key as openssl genpkey -algorithm ed25519 writes it. Its errors do not
// repeat the key.
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
