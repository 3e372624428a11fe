// Command load sends events and measures. It prints one JSON object.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/posthaste-hq/posthaste/bench/measure"
)

// Result is what one run measured. Rates are events a second, latencies from the
// sender's 2xx to the first arrival at the sink, in milliseconds.
type Result struct {
	Sent, Failed   int
	Ingest         float64 // 2xx responses per second while sending
	EndToEnd       float64 // deliveries per second, from the first request to the last arrival
	P50, P99, Max  float64
	BeforeResponse int // arrivals before the sender had its 2xx; their latency counts as 0
}

type loader struct {
	key, sink string
	urls      []string // of nodes, in turn
	bodies    [][]byte // of the types, in turn
	batch     int      // events per request
	ids       bool     // events have ids and idempotency keys from the sender
	turn      atomic.Int64
	client    *http.Client
}

func main() {
	var l loader
	targets := flag.String("url", "", "where to send events, such as http://127.0.0.1:8080/v1/events; of several, separated by commas, in turn")
	flag.StringVar(&l.key, "key", "sk_test_bench", "API key")
	flag.StringVar(&l.sink, "sink", "", "base URL of the sink; empty does not wait for arrivals")
	count := flag.Int("n", 10000, "events to send as fast as they are taken")
	conns := flag.Int("c", 64, "connections")
	size := flag.Int("size", 1024, "bytes of a request")
	typ := flag.String("type", "payment.succeeded", "event type")
	types := flag.Int("types", 1, "event types; with more than one, .0, .1 and so on is added to -type in turn")
	rate := flag.Float64("rate", 0, "send at this rate instead, whatever the answers")
	seconds := flag.Int("seconds", 10, "how long to send, with -rate")
	wait := flag.Duration("wait", time.Minute, "for arrivals, at most")
	expect := flag.Int("expect", 0, "arrivals to wait for; default: one for each event")
	h2 := flag.Bool("h2", false, "speak HTTP/2 without TLS")
	flag.BoolVar(&l.ids, "ids", false, "give each event an id and an idempotency key of its own; not with -batch")
	flag.IntVar(&l.batch, "batch", 1, "events a request; with more than one, -url is the route for batches")
	flag.Parse()
	if *expect == 0 {
		*expect = *count
	}
	l.urls = strings.Split(*targets, ",")
	for i := range *types {
		name := *typ
		if *types > 1 {
			name = fmt.Sprint(*typ, ".", i)
		}
		l.bodies = append(l.bodies, measure.Event(name, *size))
	}
	transport := &http.Transport{MaxIdleConnsPerHost: *conns, DisableCompression: true}
	if *h2 {
		transport.Protocols = new(http.Protocols)
		transport.Protocols.SetUnencryptedHTTP2(true)
	}
	l.client = &http.Client{Transport: transport, Timeout: time.Minute}
	if l.batch > 1 {
		l.gather(*types)
		*count /= l.batch
	}

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	var r Result
	var err error
	if *rate > 0 {
		r, err = l.latency(ctx, *rate, *seconds, *wait)
	} else {
		r, err = l.throughput(ctx, *count, *conns, *expect, *wait)
	}
	if err != nil {
		log.Fatal(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		log.Fatal(err)
	}
}

// gather makes batches of the events, so that each batch has all types in turn.
func (l *loader) gather(types int) {
	var batches [][]byte
	for i := range types {
		body := []byte(`{"events":[`)
		for j := range l.batch {
			if j > 0 {
				body = append(body, ',')
			}
			body = append(body, l.bodies[(i*l.batch+j)%types]...)
		}
		if batches = append(batches, append(body, "]}"...)); (i+1)*l.batch%types == 0 {
			break
		}
	}
	l.bodies = batches
}

// send sends one event and returns its id; for a batch, it returns no id.
func (l *loader) send(ctx context.Context) (string, error) {
	n := int(l.turn.Add(1))
	body, id := l.bodies[n/len(l.urls)%len(l.bodies)], ""
	if l.ids {
		id = fmt.Sprintf("evt_own_%d_%016d", os.Getpid(), n)
		body = append([]byte(`{"id":"`+id+`",`), body[1:]...)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.urls[n%len(l.urls)], bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	if l.ids {
		req.Header.Set("Idempotency-Key", id)
	}
	req.Header.Set("Authorization", "Bearer "+l.key)
	req.Header.Set("Content-Type", "application/json")
	resp, err := l.client.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err = io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return "", err
	case resp.StatusCode/100 != 2:
		return "", fmt.Errorf("answer %d: %.200s", resp.StatusCode, body)
	}
	if l.batch > 1 {
		if !bytes.Contains(body[:min(len(body), 100)], []byte(`"refused":0`)) {
			return "", fmt.Errorf("some were refused: %.300s", body)
		}
		return "", nil
	}
	// The responses of both targets begin with the id.
	_, rest, ok := bytes.Cut(body[:min(len(body), 100)], []byte(`"id":"`))
	taken, _, ok2 := bytes.Cut(rest, []byte(`"`))
	if !ok || !ok2 {
		return "", fmt.Errorf("answer without an id: %.100s", body)
	}
	return string(taken), nil
}

func (l *loader) throughput(ctx context.Context, n, conns, expect int, wait time.Duration) (Result, error) {
	var next, failed atomic.Int64
	var firstErr atomic.Value
	began := time.Now()
	var wg sync.WaitGroup
	for range conns {
		wg.Go(func() {
			for next.Add(1) <= int64(n) {
				if _, err := l.send(ctx); err != nil {
					failed.Add(1)
					firstErr.CompareAndSwap(nil, err.Error())
				}
			}
		})
	}
	wg.Wait()
	r := Result{Sent: n * l.batch, Failed: int(failed.Load()) * l.batch}
	r.Ingest = float64(r.Sent-r.Failed) / time.Since(began).Seconds()
	if r.Failed > 0 {
		log.Printf("%d of %d sends failed; the first: %v", r.Failed, n, firstErr.Load())
	}
	if l.sink == "" {
		return r, nil
	}
	if err := l.await(ctx, expect-r.Failed, wait); err != nil {
		return r, err
	}
	r.EndToEnd = float64(expect-r.Failed) / time.Since(began).Seconds()
	return r, nil
}

// await polls the sink until n deliveries have arrived.
func (l *loader) await(ctx context.Context, n int, wait time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		var stats struct{ Arrived, Duplicates int }
		if err := l.ask(ctx, "/-/stats", &stats); err != nil {
			return err
		}
		if stats.Arrived+stats.Duplicates >= n {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%d of %d deliveries arrived within %s", stats.Arrived+stats.Duplicates, n, wait)
		}
	}
}

func (l *loader) ask(ctx context.Context, path string, to any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, l.sink+path, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	return errors.Join(json.NewDecoder(resp.Body).Decode(to), resp.Body.Close())
}

// latency sends at a fixed rate, independent of the responses (an open loop), and compares the
// time of each 2xx with the time at which the event arrived.
func (l *loader) latency(ctx context.Context, rate float64, seconds int, wait time.Duration) (Result, error) {
	n := int(rate * float64(seconds))
	answered := make(map[string]int64, n)
	var mu sync.Mutex
	var failed int
	var wg sync.WaitGroup
	tick := time.NewTicker(time.Duration(float64(time.Second) / rate))
	defer tick.Stop()
	began := time.Now()
	for range n {
		<-tick.C
		wg.Go(func() {
			id, err := l.send(ctx)
			at := measure.Now()
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed++
				log.Print(err)
				return
			}
			answered[id] = at
		})
	}
	wg.Wait()
	r := Result{Sent: n, Failed: failed, Ingest: float64(n-failed) / time.Since(began).Seconds()}
	if err := l.await(ctx, n-failed, wait); err != nil {
		return r, err
	}
	var arrived map[string]int64
	if err := l.ask(ctx, "/-/arrivals", &arrived); err != nil {
		return r, err
	}
	took := make([]time.Duration, 0, n)
	for id, at := range answered {
		d := time.Duration(arrived[id] - at)
		if d < 0 {
			r.BeforeResponse++
			d = 0
		}
		took = append(took, d)
	}
	ms := func(p float64) float64 { return float64(measure.Percentile(took, p).Microseconds()) / 1000 }
	r.P50, r.P99, r.Max = ms(50), ms(99), ms(100)
	return r, nil
}
