// Command relay is the upper limit that the server is compared with: it receives an event,
// queues it in memory, signs it and posts it. It stores nothing, so it does only what every
// webhook server must do.
package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"sync/atomic"
	"time"
)

type event struct {
	id   string
	body []byte
}

type relay struct {
	target    *url.URL
	secret    []byte
	queue     chan event
	transport *http.Transport
	count     atomic.Int64
	failed    atomic.Int64
}

func main() {
	addr := flag.String("addr", "127.0.0.1:0", "address to listen on")
	target := flag.String("target", "", "URL to post to")
	workers := flag.Int("workers", 64, "posts at a time")
	ca := flag.String("ca", "", "certificate to trust, for an https target")
	flag.Parse()
	u, err := url.Parse(*target)
	if err != nil || u.Host == "" {
		log.Fatalf("relay: -target %q is not a URL", *target)
	}
	r := newRelay(u, *workers)
	if *ca != "" {
		text, err := os.ReadFile(*ca)
		if err != nil {
			log.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(text)
		r.transport.TLSClientConfig, r.transport.ForceAttemptHTTP2 = &tls.Config{RootCAs: roots}, true
	}
	l, err := net.Listen("tcp", *addr)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("relay listening addr=%s\n", l.Addr())
	log.Fatal((&http.Server{Handler: r, ReadHeaderTimeout: 10 * time.Second}).Serve(l))
}

func newRelay(target *url.URL, workers int) *relay {
	r := &relay{
		target: target, secret: []byte("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="), queue: make(chan event, 4096),
		transport: &http.Transport{MaxIdleConnsPerHost: workers, DisableCompression: true},
	}
	for range workers {
		go r.work()
	}
	return r
}

// ServeHTTP accepts an event; if the queue is full, the sender waits.
func (r *relay) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		http.Error(w, "read", http.StatusBadRequest)
		return
	}
	id := fmt.Sprintf("evt_%020d", r.count.Add(1))
	r.queue <- event{id, body}
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"id":"`+id+`"}`)
}

func (r *relay) work() {
	for e := range r.queue {
		if err := r.post(e); err != nil {
			r.failed.Add(1)
			log.Print(err)
		}
	}
}

func (r *relay) post(e event) error {
	stamp := strconv.FormatInt(time.Now().Unix(), 10)
	plain := hmac.New(sha256.New, r.secret)
	plain.Write(e.body)
	standard := hmac.New(sha256.New, r.secret)
	_, _ = io.WriteString(standard, e.id+"."+stamp+".")
	standard.Write(e.body)
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, r.target.String(), bytes.NewReader(e.body))
	if err != nil {
		return err
	}
	req.Header = http.Header{
		"Content-Type":      {"application/json"},
		"User-Agent":        {"relay"},
		"Payment-Signature": {hex.EncodeToString(plain.Sum(nil))},
		"Webhook-Id":        {e.id},
		"Webhook-Timestamp": {stamp},
		"Webhook-Signature": {"v1," + base64.StdEncoding.EncodeToString(standard.Sum(nil))},
	}
	resp, err := r.transport.RoundTrip(req)
	if err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.Body.Close()
}
