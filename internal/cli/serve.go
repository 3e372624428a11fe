package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/posthaste-hq/posthaste/api"
	"github.com/posthaste-hq/posthaste/docs"
	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/adminui"
	"github.com/posthaste-hq/posthaste/internal/broker"
	"github.com/posthaste-hq/posthaste/internal/cluster"
	"github.com/posthaste-hq/posthaste/internal/commit"
	"github.com/posthaste-hq/posthaste/internal/config"
	"github.com/posthaste-hq/posthaste/internal/dispatch"
	"github.com/posthaste-hq/posthaste/internal/docsite"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/httpapi"
	"github.com/posthaste-hq/posthaste/internal/mail"
	"github.com/posthaste-hq/posthaste/internal/mount"
	"github.com/posthaste-hq/posthaste/internal/relay"
	"github.com/posthaste-hq/posthaste/internal/sandbox"
	"github.com/posthaste-hq/posthaste/internal/sender"
	"github.com/posthaste-hq/posthaste/internal/service"
	"github.com/posthaste-hq/posthaste/internal/store"
	"github.com/posthaste-hq/posthaste/internal/telemetry"
)

func serveCommand(getenv func(string) (string, bool)) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the server",
		Long: "Run the server on the embedded store or, with --database-url, as one of many nodes on PostgreSQL.\n\n" +
			"Every flag has an environment variable: --live-schedule is POSTHASTE_LIVE_SCHEDULE. Secrets have\n" +
			"environment variables only, because flags are visible in process lists: POSTHASTE_ADMIN_KEY is the\n" +
			"operator's API key, POSTHASTE_TEST_KEY a test key of the first account.",
		Example: "  posthaste serve --dev\n  posthaste serve --addr 0.0.0.0:8080 --data /var/lib/posthaste\n" +
			"  POSTHASTE_DATABASE_URL=postgres://posthaste@db/posthaste posthaste serve --master-key-file /etc/posthaste/master-key",
		Args: cobra.NoArgs,
	}
	settings := config.Flags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := settings.Load(getenv)
		if err != nil {
			return err
		}
		log, err := telemetry.NewLogger(cmd.OutOrStdout(), c.LogFormat, c.LogLevel)
		if err != nil {
			return &config.Usage{Err: err}
		}
		// net/http logs receivers' protocol errors to the standard logger: a line per invalid frame,
		// as fast as they are sent, with parts of their responses. The attempt records the relevant
		// part.
		stdlog.SetOutput(io.Discard)
		if _, set := getenv("GOGC"); !set {
			tuneGC()
		}
		s := &server{Config: c, log: log, out: cmd.OutOrStdout(), getenv: getenv, closing: make(chan struct{})}
		return s.run(cmd.Context())
	}
	return cmd
}

// server is the running program with all its parts.
type server struct {
	*config.Config
	log    *slog.Logger
	out    io.Writer
	getenv func(string) (string, bool)

	master  *masterKeys
	store   store.Store
	cluster *cluster.Cluster // nil: a single node
	now     func() time.Time // all nodes use the database's clock
	commits *commit.Committer
	sender  *sender.Sender
	engine  *dispatch.Engine
	service *service.Service
	metrics *telemetry.Metrics
	survey  *telemetry.Surveyor
	tracing *telemetry.Tracing // nil: no tracing
	relay   *relay.Hub
	mailer  *mail.Mailer // nil: no e-mail
	brokers broker.Named
	sources []broker.SourceSpec

	listening string        // address
	closing   chan struct{} // closed when the server stops
}

// run serves until ctx ends and then stops in order: no new requests, no new attempts, the last
// writes.
func (s *server) run(ctx context.Context) (err error) {
	if s.master, err = openMasterKeys(s.Config); err != nil {
		return err
	}
	if err := s.openBrokers(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.closeBrokers()) }()
	if s.store, err = openStore(ctx, s.Config, s.master.ring); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.store.Close()) }()
	if nodes, shared := s.store.(store.Nodes); shared {
		if s.cluster, err = cluster.Join(ctx, nodes, s.NodeLease, s.log); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.leave(ctx)) }()
	}
	banner, err := s.prepare(ctx)
	if err != nil {
		return err
	}
	defer s.sender.Close()
	defer s.stopTracing(ctx)
	for _, source := range s.sources {
		if !s.service.Auth.HasAccount(source.Account) {
			return &config.Usage{Err: fmt.Errorf("--sources: account %s does not exist", source.Account)}
		}
	}

	listener, err := listen(ctx, s.Addr, s.getenv)
	if err != nil {
		return err
	}
	s.listening = listener.Addr().String()
	stopDebug, err := s.beside(ctx, "debug", s.DebugAddr, pprofHandler())
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	defer stopDebug()
	stopMetrics, err := s.beside(ctx, "metrics", s.MetricsAddr, metricsAlone(s.metrics.Handler()))
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	defer stopMetrics()

	s.commits.Start(s.engine.Committed)
	if err := s.engine.Start(ctx); err != nil {
		return errors.Join(err, listener.Close())
	}
	web := newWeb(s.edge(s.handler()), s.log)
	var visiting visitors
	visiting.watch(web)
	inbound := s.crowd().watch(web, listener)
	served := make(chan error, 1)
	go func() {
		served <- web.Serve(inbound)
		close(served)
	}()
	fenced, stopCluster := s.takePart(ctx)
	defer stopCluster()
	var background sync.WaitGroup
	upkeep, stopUpkeep := context.WithCancel(ctx)
	defer background.Wait()
	defer stopUpkeep()
	background.Go(func() {
		s.service.Upkeep(upkeep, service.Retention{Events: s.Retention, Audit: s.AuditKept, Jobs: s.JobsKept, Sandbox: s.SandboxKept})
	})
	background.Go(func() { s.commits.Resume(upkeep, s.now) })
	background.Go(func() { s.service.Jobs.Run(upkeep) })
	background.Go(func() { s.service.RunErasures(upkeep) })
	background.Go(func() { s.service.RunStatistics(upkeep) })
	background.Go(func() { s.survey.Run(upkeep) })
	if s.mailer != nil {
		background.Go(func() { s.mailer.Run(upkeep) })
	}
	background.Go(func() { s.brokers.Run(upkeep, s.sources, s.log, s.take, s.interrupted) })
	background.Go(func() { s.master.goOn(upkeep, s.store, s.log) })

	s.greet(banner, listener.Addr().String())
	s.log.Info("listening", "addr", listener.Addr().String(), "version", Version(), "data", storeName(s.Config), "dev", s.Dev)
	s.tellManager("READY=1")

	select {
	case <-ctx.Done():
	case err = <-served:
		err = fmt.Errorf("serve: %w", err)
	case err = <-fenced: // other nodes own the deliveries in memory now
		s.StopTimeout = 0
	}
	s.log.Info("stopping", "timeout", s.StopTimeout)
	s.tellManager("STOPPING=1")
	deadline, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.StopTimeout)
	defer cancel()
	_ = listener.Close()
	<-served
	web.SetKeepAlivesEnabled(false)
	visiting.await(deadline)
	close(s.closing)
	stopUpkeep()
	s.relay.Close(deadline)
	if werr := web.Shutdown(deadline); werr != nil {
		s.log.Warn("requests were interrupted at shutdown", "err", werr)
		_ = web.Close()
	}
	s.engine.Stop(deadline)
	flush, cancelFlush := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancelFlush()
	if cerr := s.commits.Stop(flush); cerr != nil {
		err = errors.Join(err, fmt.Errorf("write the last outcomes: %w", cerr))
	}
	s.log.Info("stopped")
	return err
}

// tellManager notifies the service manager, if there is one.
func (s *server) tellManager(state string) {
	if err := notifyServiceManager(s.getenv, state); err != nil {
		s.log.Warn("service manager", "err", err)
	}
}

// prepare creates the parts and the data that the store must have before the first request, and
// returns text to print once. Nodes that start at once read the settings concurrently; missing
// data is created by one node after the other, each with the data of the preceding one.
func (s *server) prepare(ctx context.Context) (banner []string, err error) {
	if err := s.wire(ctx); err != nil {
		return nil, err
	}
	do := func(ctx context.Context) error {
		if err := s.service.CatchUp(ctx); err != nil {
			return err
		}
		if err := s.service.SetOperatorReceiver(ctx, s.NotifyURL, s.NotifySecret); err != nil {
			return err
		}
		banner, err = s.keys(ctx)
		return err
	}
	if s.cluster == nil {
		err = do(ctx)
	} else {
		err = s.cluster.Alone(ctx, do)
	}
	return banner, err
}

// takePart lets this node own endpoints. fenced is closed when the others have removed it;
// without a cluster it never is.
func (s *server) takePart(ctx context.Context) (fenced <-chan error, stop func()) {
	if s.cluster == nil {
		return nil, func() {}
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	failed, ended := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(ended)
		if err := s.cluster.Run(ctx, s.service, s.engine); err != nil {
			failed <- err
		}
	}()
	return failed, func() {
		cancel()
		<-ended
	}
}

// leave lets the other nodes take over, after everything is written.
func (s *server) leave(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
	defer cancel()
	if err := s.cluster.Leave(ctx); err != nil && !errors.Is(err, store.ErrFenced) {
		return fmt.Errorf("leave the cluster: %w", err)
	}
	return nil
}

const leaveTimeout = 2 * time.Second

// wire creates and connects the parts.
func (s *server) wire(ctx context.Context) error {
	s.now = time.Now
	keys := event.NewKeys(s.now, 0)
	if s.cluster != nil {
		s.now = s.cluster.Now
		keys = event.NewKeys(s.now, uint8(s.cluster.Self()))
	}
	last, err := s.store.LastKey(ctx)
	if err != nil {
		return err
	}
	keys.After(last)
	s.sender = sender.New(sender.Config{
		Brand: s.Brand, Version: version, Timeout: s.Timeout,
		AllowNets: s.AllowTargets, DenyNets: s.DenyTargets, AllowLoopback: s.Dev, Ports: s.ports(), Now: s.now,
		EgressProxy: s.EgressProxy, ProxyResolves: s.ProxyResolves,
	})
	if s.Mail.Addr != "" {
		if s.mailer, err = mail.New(mail.Config{Addr: s.Mail.Addr, TLS: s.Mail.TLS, From: s.Mail.From, To: s.Mail.To,
			Username: s.Mail.Username, Password: s.Mail.Password, Brand: s.Brand, Log: s.log, Gather: s.Mail.Every}); err != nil {
			return &config.Usage{Err: err}
		}
	}
	endpoints := endpoint.NewRegistry()
	s.observe(endpoints)
	if s.Tracing {
		if s.tracing, err = telemetry.NewTracing(ctx, s.OTLP, version, s.log); err != nil {
			return err
		}
	}
	s.commits = commit.New(s.metrics.Commits(s.store), s.log)
	s.commits.Timeout = s.Commit
	if s.cluster != nil {
		s.commits.Nodes = func() int { return s.cluster.Stats().Nodes }
	}
	conf := service.Config{
		Store: s.store, Events: s.events(), Endpoints: endpoints, Targets: s.sender, IDs: event.NewIDs(keys),
		Now: s.now, Log: s.log, MaxBody: s.MaxBody, RateLimit: s.RateLimit, Limits: s.Limits, SecretMaxAge: s.SecretMaxAge, AccountGrace: s.AccountGrace, EventsKept: s.Retention,
		Rules:        endpoint.Rules{AllowPlain: s.AllowPlain, Signature: http.CanonicalHeaderKey(s.Brand + "-Signature"), Brokers: s.hasBroker},
		Notify:       s.notify,
		PublicURL:    s.publicURL,
		Validated:    s.metrics.Validated,
		GivenUp:      s.metrics.GivenUp,
		Forgotten:    s.metrics.Forgotten,
		RotateMaster: func(ctx context.Context) (service.MasterRotation, error) { return s.master.rotate(ctx, s.store) },
	}
	if nodes, shared := s.store.(store.Nodes); shared && s.cluster != nil {
		conf.Owns, conf.Settings = s.cluster.Owns, nodes
	}
	s.service = service.New(conf)
	engine := dispatch.Config{
		Store: s.metrics.Lanes(s.service.Lanes(s.store)), Recorder: s.metrics.Recorder(s.commits), Endpoints: endpoints, Now: s.now, Random: rand.Float64, Log: s.log,
		Live: s.LiveSchedule, Test: s.TestSchedule, Concurrency: s.Concurrency, Workers: s.Workers, Health: s.Health, MaxAge: s.MaxAge,
	}
	engine.Processor = s.service
	if s.cluster != nil {
		engine.Cluster = s.cluster
	}
	s.relay = relay.New(relay.Config{Service: s.service, Sender: s.sender, Brand: s.Brand, PublicURL: s.PublicURL, Now: s.now, Log: s.log, Key: httpapi.Key, Answer: httpapi.WriteError})
	toBrokers := &broker.Sender{Brokers: s.brokers, Signer: s.sender, Next: s.relay, Timeout: s.Timeout, Now: s.now}
	engine.Sender, engine.Watcher = s.attempts(toBrokers), s.metrics.Watcher(s.service.Watcher())
	s.engine = dispatch.New(engine)
	return s.service.Load(ctx, s.engine)
}

// notify sends a notice to the operator.
func (s *server) notify(n service.Note) {
	if s.mailer == nil {
		return
	}
	mode := "test"
	if n.Live {
		mode = "live"
	}
	s.mailer.Tell(n.Type+" "+n.Endpoint, fmt.Sprintf("%s\nEndpoint %s (%s), account %s, %s mode.", n.Text, n.Endpoint, n.URL, n.Account, mode))
}

// ports returns the ports that endpoints may use; in development, all.
func (s *server) ports() (out []sender.PortRange) {
	if s.Dev {
		return nil
	}
	for _, r := range s.TargetPorts {
		out = append(out, sender.PortRange(r))
	}
	return out
}

// sandbox returns the Payment sandbox, whose receipts use the external URL.
func (s *server) sandbox() *sandbox.Sandbox {
	return sandbox.New(sandbox.Config{Store: s.store, Events: s.service, BaseURL: s.reachedAt})
}

// reachedAt returns the external URL of the server, without a trailing slash.
func (s *server) reachedAt() string {
	if s.PublicURL != "" {
		return s.PublicURL
	}
	return "http://" + s.listening
}

// publicURL returns the URL by which receivers reach the server, empty if unknown. In
// development they are on this machine.
func (s *server) publicURL() string {
	if s.Dev {
		return s.reachedAt()
	}
	return s.PublicURL
}

// crowd returns the bounds of connections. Half of the file descriptors remain for deliveries,
// the store and other uses.
func (s *server) crowd() *crowd {
	total := s.MaxConnections
	if total == 0 {
		total = descriptors() / 2
	}
	each := s.MaxPerAddress
	if each == 0 {
		each = (total + 1) / 2
	}
	return newCrowd(total, each, s.TrustedProxies, s.log)
}

// edge returns the server's handler as seen from outside: behind proxies, below a path, over
// https.
func (s *server) edge(inner http.Handler) http.Handler {
	h := mount.Path(s.PublicPath).Handler(inner)
	h = strictTransport(strings.HasPrefix(s.PublicURL, "https://"), h)
	return clientAddresses(s.TrustedProxies, s.log, h)
}

func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /v1/listen", s.relay)
	mux.HandleFunc("POST /v1/stripecli/sessions", s.relay.StripeSession)
	mux.HandleFunc("GET /v1/stripecli/connect", s.relay.StripeConnect)
	payments := s.sandbox()
	ui := adminui.New(adminui.Config{AttemptWait: 3 * time.Second, Service: s.service, Sandbox: payments, Brand: s.Brand, Version: Version(), Log: s.log,
		Settings: s.shown(), PublicURL: s.PublicURL, Path: mount.Path(s.PublicPath), Closing: s.closing})
	for _, path := range []string{"/admin", "/admin/", "/portal", "/portal/"} {
		mux.Handle(path, ui)
	}
	site := docsite.New(docsite.Config{Files: docs.Files, Source: sourceURL, Version: Version(), Log: s.log, HasAdmin: true,
		Styles: []string{adminui.Asset("app.css")}, Icon: adminui.Asset("icon.svg"),
		Scripts: []docsite.Script{{URL: adminui.Asset("theme.js")}, {URL: adminui.Asset("app.js"), Deferred: true}}})
	for _, path := range []string{"/docs", "/docs/"} {
		mux.Handle(path, site)
	}
	calls := s.requests(httpapi.New(httpapi.Config{
		Service: s.service, Sandbox: payments, PublicURL: s.reachedAt, Path: mount.Path(s.PublicPath), RequireIdempotencyKey: s.RequireIdempotencyKey, Brand: s.Brand, Version: Version(), Log: s.log, OpenAPI: api.OpenAPI,
		Egress: s.EgressAddresses, Ready: s.ready, Metrics: s.metricsAtAddr(), Observe: s.metrics.Request, Profiles: pprofHandler(), Closing: s.closing,
	}))
	mux.Handle("/", calls)
	return cleanPaths(mux, calls)
}

// ready returns nil when events can be accepted.
func (s *server) ready(ctx context.Context) error {
	if s.commits.Late() {
		return &fault.Error{Code: fault.Unavailable, Message: "a transaction takes too long", Hint: "a transaction takes too long"}
	}
	return s.service.Ready(ctx)
}

// sourceURL is the prefix of the documentation's links to other files of the repository.
const sourceURL = "https://github.com/posthaste-hq/posthaste/blob/main/"

// keys creates the initial API keys, and returns text to print once.
func (s *server) keys(ctx context.Context) ([]string, error) {
	var shown []string
	if s.AdminKey != "" {
		if _, err := s.service.Auth.EnsureKey(ctx, s.AdminKey, "environment"); err != nil {
			return nil, fmt.Errorf("operator key of the environment: %w", err)
		}
	} else if !s.service.Auth.HasOperator() {
		path, err := s.newOperatorKey(ctx)
		if err != nil {
			return nil, err
		}
		shown = append(shown, "Operator key  in "+path)
	}
	if !s.Dev && s.TestKey == "" {
		return shown, nil
	}
	key := s.TestKey
	if key == "" {
		var err error
		if key, err = s.devKey(ctx); err != nil {
			return nil, err
		}
	} else if _, err := s.service.Auth.EnsureKey(ctx, key, "Development"); err != nil {
		return nil, fmt.Errorf("test key: %w", err)
	}
	if s.Dev {
		shown = append(shown, "Test key      "+key)
		password, err := s.service.Auth.EnsureAdmin(ctx, firstAdmin)
		if err != nil {
			return nil, fmt.Errorf("make the first user: %w", err)
		}
		if password != "" {
			shown = append(shown, "Sign in as    "+firstAdmin, "Password      "+password+"  (shown only once)")
		}
	}
	return shown, nil
}

// firstAdmin is the first user of a development server.
const firstAdmin = "admin"

const operatorKeyFile = "operator-key"

// File and name of the test key that a development server generates.
const (
	devKeyFile = "test-key"
	devKeyName = "Development, from the file " + devKeyFile
)

// devKey returns the test key of a development server without POSTHASTE_TEST_KEY: that of its
// last start, from a file in the data directory with mode 0600, unless it was revoked. A new
// key revokes the preceding one, so at most one is valid.
func (s *server) devKey(ctx context.Context) (key string, err error) {
	path := filepath.Join(s.Data, devKeyFile)
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("read the test key: %w", err)
	}
	if key = strings.TrimSpace(string(text)); strings.HasPrefix(key, account.PrefixTest) && !s.service.Auth.Revoked(key) {
		_, err := s.service.Auth.EnsureKey(ctx, key, devKeyName)
		if err == nil {
			return key, nil
		}
		if !fault.Is(err, fault.Invalid) { // the file was edited
			return "", fmt.Errorf("test key: %w", err)
		}
	}
	key = account.NewSecret(account.PrefixTest)
	if err := writeKeyFile(path, key); err != nil {
		return "", fmt.Errorf("write the test key: %w", err)
	}
	if _, err := s.service.Auth.EnsureKey(ctx, key, devKeyName); err != nil {
		return "", fmt.Errorf("test key: %w", err)
	}
	return key, s.service.Auth.RevokeOthers(ctx, key, devKeyName)
}

// writeKeyFile replaces a file with one of mode 0600 that contains a key.
func writeKeyFile(path, key string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.WriteFile(path, []byte(key+"\n"), 0o600)
}

// newOperatorKey writes the first operator key to a file in the data directory that only its
// owner can read, so that it is in no log. The file is written first: an unknown key would be
// worse than a file without a key.
func (s *server) newOperatorKey(ctx context.Context) (path string, err error) {
	path = filepath.Join(s.Data, operatorKeyFile)
	key := account.NewSecret(account.PrefixAdmin)
	if err := writeKeyFile(path, key); err != nil {
		return "", fmt.Errorf("write the first operator key: %w", err)
	}
	if _, err := s.service.Auth.EnsureKey(ctx, key, "first"); err != nil {
		return "", fmt.Errorf("make the first operator key: %w", err)
	}
	return path, nil
}

// greet prints the URLs to continue with, for people; the following log line has the same for
// programs.
func (s *server) greet(lines []string, addr string) {
	if !s.Dev && len(lines) == 0 {
		return
	}
	base := "http://" + addr
	_, _ = fmt.Fprintf(s.out, "\nPosthaste %s\n\n  API           %s/v1\n  Documentation %s/docs\n  API reference %s/docs/api\n  Admin UI      %s/admin\n  %s\n\n",
		version, base, base, base, base, strings.Join(lines, "\n  "))
}

// beside serves h on a separate address, unless that is empty. name is that of the flag.
func (s *server) beside(ctx context.Context, name, addr string, h http.Handler) (stop func(), err error) {
	if addr == "" {
		return func() {}, nil
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen on --%s-addr %s: %w", name, addr, err)
	}
	web := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)}
	go func() { _ = web.Serve(listener) }()
	s.log.Info("listening for "+name, name+"_addr", listener.Addr().String())
	return func() { _ = web.Close() }, nil
}

// metricsAlone serves metrics, and nothing else.
func metricsAlone(metrics http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metrics)
	return mux
}

// metricsAtAddr returns the handler of /metrics at --addr, which requires an operator key. It
// is nil if metrics have a separate address.
func (s *server) metricsAtAddr() http.Handler {
	switch {
	case s.MetricsAddr != "":
		return nil
	case s.Dev:
		return s.metrics.Handler()
	}
	metrics := s.metrics.Handler()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := s.mustBeOperator(r); err != nil {
			httpapi.WriteError(w, err)
			return
		}
		metrics.ServeHTTP(w, r)
	})
}

// mustBeOperator refuses a request without an operator key.
func (s *server) mustBeOperator(r *http.Request) error {
	key, err := httpapi.Key(r)
	if err != nil {
		return err
	}
	call, err := s.service.Auth.Authenticate(r.Context(), key)
	if err == nil && !call.Operator() {
		err = &fault.Error{Code: fault.Forbidden, Reason: "operator_key_required", Message: "Metrics require an operator key (sk_admin_…). Send one, or scrape --metrics-addr."}
	}
	return err
}

// pprofHandler serves profiles of the process, without the command line, which may contain a
// password in a URL.
func pprofHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	return mux
}
