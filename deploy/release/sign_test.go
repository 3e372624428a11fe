package main

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The public key verifies the signature of the checksums, and not with another file.
func TestSign(t *testing.T) {
	dir := t.TempDir()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, key any) string {
		t.Helper()
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key, sums := write("key.pem", private), filepath.Join(dir, sumsName)
	if err := os.WriteFile(sums, []byte("00  a\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := sign(key, sums); err != nil {
		t.Fatal(err)
	}
	signature, err := os.ReadFile(sums + ".sig")
	if err != nil {
		t.Fatal(err)
	}
	if !ed25519.Verify(public, []byte("00  a\n"), signature) || ed25519.Verify(public, []byte("01  a\n"), signature) {
		t.Error("the signature is not that of the file")
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(dir, "bad")
	if err := os.WriteFile(bad, []byte("supersecret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, wrong := range []string{write("other.pem", other), bad, filepath.Join(dir, "none")} {
		if err := sign(wrong, sums); err == nil || strings.Contains(err.Error(), "supersecret") {
			t.Errorf("%s: %v", wrong, err)
		}
	}
}
