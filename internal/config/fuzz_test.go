package config

import (
	"errors"
	"testing"

	"github.com/spf13/pflag"
)

// For any settings: they are refused with a usage error, or they are within bounds.
func FuzzLoad(f *testing.F) {
	for _, s := range [][4]string{
		{"5s,10m 2h", "80,443,1024-65535", "10.0.0.0/8,::1/128", "http://proxy:3128"}, {"", "", "", ""}, {"-1s", "0", "10.0.0.0/33", "ftp://x"},
		{"1ns,", "65536", "127.0.0.1", "http://u:p@[::1]:1"}, {"9999999h", "5-4", "\xff", "://"}, {"1h1h", "1-2-3", "\"", "http:///"},
	} {
		f.Add(s[0], s[1], s[2], s[3])
	}
	f.Fuzz(func(t *testing.T, schedule, ports, ranges, proxy string) {
		flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
		settings := Flags(flags)
		env := map[string]string{"LIVE_SCHEDULE": schedule, "TARGET_PORTS": ports, "DENY_TARGETS": ranges, "EGRESS_ADDRESSES": ranges, "EGRESS_PROXY": proxy}
		c, err := settings.Load(func(name string) (string, bool) {
			v, ok := env[name[len(EnvPrefix):]]
			return v, ok
		})
		var usage *Usage
		if err != nil {
			if !errors.As(err, &usage) {
				t.Errorf("%q: %v", env, err)
			}
			return
		}
		for _, d := range c.LiveSchedule {
			if d <= 0 {
				t.Errorf("schedule %q holds %s", schedule, d)
			}
		}
		for _, r := range c.TargetPorts {
			if r.From == 0 || r.To < r.From {
				t.Errorf("ports %q hold %v", ports, r)
			}
		}
		if c.EgressProxy != nil && c.EgressProxy.Hostname() == "" {
			t.Errorf("proxy %q has no host", proxy)
		}
	})
}
