package cli

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"

	"github.com/posthaste-hq/posthaste/internal/config"
)

// firstSocket is the file descriptor of the first socket from a service manager.
const firstSocket = 3

// listen returns the socket that the service manager holds for this process or, if there is
// none, a new one at addr. A socket that outlives the process accepts connections during its
// restart.
func listen(ctx context.Context, addr string, getenv func(string) (string, bool)) (net.Listener, error) {
	pid, _ := getenv("LISTEN_PID")
	if pid != strconv.Itoa(os.Getpid()) { // none, or meant for another process
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
		if err != nil {
			return nil, fmt.Errorf("listen on %s: %w", addr, err)
		}
		return l, nil
	}
	if n, _ := getenv("LISTEN_FDS"); n != "1" {
		return nil, &config.Usage{Err: fmt.Errorf("LISTEN_FDS=%q: pass exactly one socket", n)}
	}
	f := os.NewFile(firstSocket, "LISTEN_FDS")
	l, err := net.FileListener(f) // of a copy, which no child process inherits
	_ = f.Close()
	if err != nil {
		return nil, fmt.Errorf("listen on the inherited socket: %w", err)
	}
	return l, nil
}

// notifyServiceManager notifies the service manager, if it requested that, that the server is
// ready or stopping.
func notifyServiceManager(getenv func(string) (string, bool), state string) error {
	path, _ := getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("tell the service manager %s: %w", state, err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write([]byte(state)); err != nil {
		return fmt.Errorf("tell the service manager %s: %w", state, err)
	}
	return nil
}
