// Command sink receives deliveries and records when each event first arrived.
//
//	/ok      answers 200 at once
//	/slow    answers 200 after ?ms= milliseconds
//	/gate    answers 200 once POST /-/open was asked for
//	/hang    never answers
//	/fail    answers ?code= (500)
//	/-/stats counts; /-/arrivals first arrivals by event id; POST /-/reset forgets both
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/posthaste-hq/posthaste/bench/measure"
)

// arrivals has the first arrivals at /ok, /slow and /gate.
type arrivals struct {
	mu         sync.Mutex
	first      map[string]int64
	duplicates int
}

func (a *arrivals) note(id string) {
	now := measure.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, again := a.first[id]; again {
		a.duplicates++
		return
	}
	a.first[id] = now
}

func main() {
	addr := flag.String("addr", "127.0.0.1:0", "address to listen on")
	certFile := flag.String("cert", "", "write a fresh certificate here, and take TLS on a second port")
	flag.Parse()
	h := handler()
	if *certFile != "" {
		if err := serveTLS(h, *certFile); err != nil {
			log.Fatal(err)
		}
	}
	l, err := net.Listen("tcp", *addr)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("sink listening addr=%s\n", l.Addr())
	log.Fatal((&http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}).Serve(l))
}

// serveTLS listens on a port of its own, also with HTTP/2, and prints the port.
func serveTLS(h http.Handler, certFile string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	if err := os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Printf("sink tls=%s\n", l.Addr())
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second,
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}}
	go func() { log.Fatal(srv.ServeTLS(l, "", "")) }()
	return nil
}

func handler() http.Handler {
	a := &arrivals{first: map[string]int64{}}
	mux := http.NewServeMux()
	receive := func(r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		a.note(r.Header.Get("Webhook-Id"))
	}
	mux.HandleFunc("/ok", func(_ http.ResponseWriter, r *http.Request) { receive(r) })
	mux.HandleFunc("/slow", func(_ http.ResponseWriter, r *http.Request) {
		receive(r)
		time.Sleep(time.Duration(number(r, "ms", 200)) * time.Millisecond)
	})
	gate := make(chan struct{})
	open := sync.OnceFunc(func() { close(gate) })
	mux.HandleFunc("/gate", func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-gate:
			a.note(r.Header.Get("Webhook-Id"))
		case <-r.Context().Done():
		}
	})
	mux.HandleFunc("POST /-/open", func(http.ResponseWriter, *http.Request) { open() })
	mux.HandleFunc("/hang", func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	})
	mux.HandleFunc("/fail", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(number(r, "code", http.StatusInternalServerError))
	})
	mux.HandleFunc("GET /-/stats", func(w http.ResponseWriter, _ *http.Request) {
		a.mu.Lock()
		defer a.mu.Unlock()
		_ = json.NewEncoder(w).Encode(map[string]int{"arrived": len(a.first), "duplicates": a.duplicates})
	})
	mux.HandleFunc("GET /-/arrivals", func(w http.ResponseWriter, _ *http.Request) {
		a.mu.Lock()
		defer a.mu.Unlock()
		_ = json.NewEncoder(w).Encode(a.first)
	})
	mux.HandleFunc("POST /-/reset", func(http.ResponseWriter, *http.Request) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.first, a.duplicates = map[string]int64{}, 0
	})
	return mux
}

func number(r *http.Request, name string, standard int) int {
	if n, err := strconv.Atoi(r.URL.Query().Get(name)); err == nil {
		return n
	}
	return standard
}
