// Command sink receives deliveries and notes when each event first arrived.
//
//	/ok      answers 200 at once
//	/slow    answers 200 after ?ms= milliseconds
//	/hang    never answers
//	/fail    answers ?code= (500)
//	/-/stats counts; /-/arrivals first arrivals by event id; POST /-/reset forgets both
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/posthaste-hq/posthaste/bench/measure"
)

// arrivals is what came to /ok and /slow.
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
	flag.Parse()
	l, err := net.Listen("tcp", *addr)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("sink listening addr=%s\n", l.Addr())
	log.Fatal((&http.Server{Handler: handler(), ReadHeaderTimeout: 10 * time.Second}).Serve(l))
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
