// Package pgtest starts PostgreSQL clusters for tests: real servers, in a temporary directory,
// on a port of 127.0.0.1. No program links it.
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Cluster is a running PostgreSQL server.
type Cluster struct {
	dir    string
	port   int
	cmd    *exec.Cmd
	log    string
	who    *syscall.Credential
	ended  chan struct{}
	nextDB atomic.Int64
}

const patience = time.Minute

// Start creates and starts a cluster, with settings such as "fsync=off". The caller must Stop
// it.
func Start(settings ...string) (_ *Cluster, err error) {
	c := &Cluster{}
	if c.who, err = credential(); err != nil {
		return nil, err
	}
	if c.dir, err = os.MkdirTemp("", "posthaste-pg-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(c.dir))
		}
	}()
	if c.who != nil {
		if err := os.Chown(c.dir, int(c.who.Uid), int(c.who.Gid)); err != nil {
			return nil, err
		}
	}
	if err := c.run("initdb", "-D", filepath.Join(c.dir, "data"), "-U", "posthaste", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8"); err != nil {
		return nil, err
	}
	return c, c.start(settings)
}

// credential returns the user to run the server as, because it refuses to run as root.
func credential() (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL does not run as root, and there is no other user for it: %w", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, err
}

// program finds one of PostgreSQL's programs, which Debian installs outside of the path.
func program(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	if path, err := exec.LookPath(filepath.Join("/usr/sbin", name)); err == nil {
		return path, nil
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if err != nil || len(found) == 0 {
		return "", fmt.Errorf("there is no %s; make test installs it (package postgresql)", name)
	}
	return found[len(found)-1], nil
}

func (c *Cluster) command(name string, args ...string) (*exec.Cmd, error) {
	path, err := program(name)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path, args...)
	cmd.Dir = c.dir
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.who, Setpgid: true}
	return cmd, nil
}

func (c *Cluster) run(name string, args ...string) error {
	cmd, err := c.command(name, args...)
	if err != nil {
		return err
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, out)
	}
	return nil
}

func (c *Cluster) start(settings []string) error {
	if c.port == 0 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		c.port = l.Addr().(*net.TCPAddr).Port
		if err := l.Close(); err != nil {
			return err
		}
	}
	args := []string{"-D", filepath.Join(c.dir, "data"), "-p", strconv.Itoa(c.port), "-h", "127.0.0.1", "-k", c.dir, "-c", "max_connections=200"}
	for _, s := range settings {
		args = append(args, "-c", s)
	}
	var err error
	if c.cmd, err = c.command("postgres", args...); err != nil {
		return err
	}
	c.log = filepath.Join(c.dir, "log")
	log, err := os.OpenFile(c.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	c.cmd.Stdout, c.cmd.Stderr = log, log
	if err := c.cmd.Start(); err != nil {
		return err
	}
	c.ended = make(chan struct{})
	go func() {
		_ = c.cmd.Wait()
		close(c.ended)
	}()
	return c.await()
}

// await waits until the server responds.
func (c *Cluster) await() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := pgx.Connect(ctx, c.URL("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-tick.C:
		case <-c.ended:
			text, _ := os.ReadFile(c.log)
			return fmt.Errorf("the server ended:\n%s", text)
		case <-ctx.Done():
			return err
		}
	}
}

// Host is the address on which the server listens.
func (c *Cluster) Host() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(c.port)) }

// URL returns the URL of a database.
func (c *Cluster) URL(database string) string {
	return "postgres://posthaste@" + c.Host() + "/" + database + "?sslmode=disable"
}

// NewDatabase creates an empty database, or a copy of another one, and returns its URL.
func (c *Cluster) NewDatabase(template string) (string, error) {
	name := fmt.Sprint("db", c.nextDB.Add(1))
	if template == "" {
		template = "template1"
	}
	return c.URL(name), c.Exec("CREATE DATABASE " + name + " TEMPLATE " + template)
}

// Exec runs a statement as the superuser.
func (c *Cluster) Exec(query string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, c.URL("postgres"))
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, query)
	return errors.Join(err, conn.Close(ctx))
}

// Number runs a query as the superuser that returns one number.
func (c *Cluster) Number(query string) (n float64, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, c.URL("postgres"))
	if err != nil {
		return 0, err
	}
	err = conn.QueryRow(ctx, query).Scan(&n)
	return n, errors.Join(err, conn.Close(ctx))
}

// Kill ends the server at once, as a power failure would end its processes.
func (c *Cluster) Kill() {
	_ = c.cmd.Process.Signal(syscall.SIGQUIT) // "immediate": it recovers when it is started again
	select {
	case <-c.ended:
	case <-time.After(patience):
		_ = c.cmd.Process.Kill()
		<-c.ended
	}
}

// Restart starts a killed server again, at the same address.
func (c *Cluster) Restart(settings ...string) error { return c.start(settings) }

// Stop ends the server and deletes its data.
func (c *Cluster) Stop() error {
	c.Kill()
	return os.RemoveAll(c.dir)
}

// Standby starts a server that replicates c, and accepts no writes until it is promoted.
func (c *Cluster) Standby(settings ...string) (_ *Cluster, err error) {
	s := &Cluster{who: c.who}
	if s.dir, err = os.MkdirTemp("", "posthaste-pg-"); err != nil {
		return nil, err
	}
	if s.who != nil {
		if err := os.Chown(s.dir, int(s.who.Uid), int(s.who.Gid)); err != nil {
			return nil, err
		}
	}
	host, port, _ := strings.Cut(c.Host(), ":")
	if err := s.run("pg_basebackup", "-D", filepath.Join(s.dir, "data"), "-h", host, "-p", port, "-U", "posthaste", "-R", "--no-sync", "--checkpoint=fast"); err != nil {
		return nil, err
	}
	return s, s.start(settings)
}

// Promote makes a standby the primary.
func (c *Cluster) Promote() error {
	return c.run("pg_ctl", "promote", "-D", filepath.Join(c.dir, "data"), "-w")
}

// Pooler starts a PgBouncer in transaction mode before c, with fewer connections than
// its clients have, and returns the URL of a database through it. It ends with stop.
func (c *Cluster) Pooler(database string) (url string, stop func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	port := l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		return "", nil, err
	}
	host, to, _ := strings.Cut(c.Host(), ":")
	ini := filepath.Join(c.dir, "pgbouncer.ini")
	text := fmt.Sprintf("[databases]\n* = host=%s port=%s\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = %d\nunix_socket_dir =\nauth_type = any\n"+
		"pool_mode = transaction\ndefault_pool_size = 5\nmax_client_conn = 200\n", host, to, port)
	if err := os.WriteFile(ini, []byte(strings.Replace(text, "* = host", database+" = user=posthaste host", 1)), 0o644); err != nil {
		return "", nil, err
	}
	cmd, err := c.command("pgbouncer", ini)
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	stop = func() {
		_ = cmd.Process.Kill()
		<-ended
	}
	at := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		conn, err := net.Dial("tcp", at)
		if err == nil {
			return "postgres://posthaste@" + at + "/" + database + "?sslmode=disable&pooling=transaction", stop, conn.Close()
		}
		if time.Now().After(deadline) {
			stop()
			return "", nil, err
		}
	}
}

// CPU returns the processor time of all of the server's processes, from Linux's /proc.
func (c *Cluster) CPU() (used time.Duration, err error) {
	pid := strconv.Itoa(c.cmd.Process.Pid)
	all, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	for _, path := range all {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended meanwhile
		}
		_, rest, _ := strings.Cut(string(text), ") ") // after the name
		f := strings.Fields(rest)                     // state, ppid, …; utime is the 12th
		own := filepath.Base(filepath.Dir(path)) == pid
		if len(f) < 15 || !own && f[1] != pid {
			continue
		}
		times := f[11:13]
		if own { // including its processes that have ended
			times = f[11:15]
		}
		for _, t := range times {
			ticks, err := strconv.ParseInt(t, 10, 64)
			if err != nil {
				return 0, err
			}
			used += time.Duration(ticks) * (time.Second / 100)
		}
	}
	return used, nil
}

// Hold runs statements on a connection that stays open, in the transaction that they began,
// until end is called. If PostgreSQL rolls them back because of a deadlock, for example with
// nodes that lock partitions in another order, it repeats them.
func (c *Cluster) Hold(statements ...string) (end func(), err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		end, err = c.hold(ctx, statements)
		var ended *pgconn.PgError
		if !errors.As(err, &ended) || ended.Code != "40P01" { // deadlock_detected
			return end, err
		}
	}
}

func (c *Cluster) hold(ctx context.Context, statements []string) (end func(), err error) {
	conn, err := pgx.Connect(ctx, c.URL("postgres"))
	if err != nil {
		return nil, err
	}
	end = func() { _ = conn.Close(context.Background()) }
	for _, s := range statements {
		if _, err := conn.Exec(ctx, s); err != nil {
			end()
			return nil, fmt.Errorf("%s: %w", s, err)
		}
	}
	return end, nil
}
