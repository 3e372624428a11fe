package zoo

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"time"
)

// nursery issues certificates.
type nursery struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	root []byte // PEM
	good tls.Certificate
}

func newNursery() (*nursery, error) {
	n := &nursery{}
	der, key, err := n.make(func(c *x509.Certificate) {
		c.Subject.CommonName, c.IsCA, c.BasicConstraintsValid, c.KeyUsage, c.ExtKeyUsage, c.IPAddresses = "CA of the zoo", true, true, x509.KeyUsageCertSign, nil, nil
	})
	if err != nil {
		return nil, err
	}
	if n.cert, err = x509.ParseCertificate(der); err != nil {
		return nil, err
	}
	n.key, n.root = key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	n.good = n.issue(func(*x509.Certificate) {})
	return n, nil
}

// make issues a certificate; the first one is self-signed and the CA of the others.
func (n *nursery) make(change func(*x509.Certificate)) ([]byte, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	now := time.Now()
	template := &x509.Certificate{SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "animal"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	change(template)
	parent, signer := template, key
	if n.cert != nil {
		parent, signer = n.cert, n.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	return der, key, err
}

func (n *nursery) issue(change func(*x509.Certificate)) tls.Certificate {
	der, key, err := n.make(change)
	if err != nil {
		panic(err) // the template is constant
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// trusted returns a valid certificate, with HTTP/2 for clients that choose it.
func trusted(n *nursery) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{n.good}, NextProtos: []string{"h2", "http/1.1"}}
}

func trustedHTTP1(n *nursery) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{n.good}, NextProtos: []string{"http/1.1"}}
}

func trustedHTTP2(n *nursery) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{n.good}, NextProtos: []string{"h2"}}
}

// untrusted returns the animals that a sender must not talk to. They would answer 200.
func untrusted() []Animal {
	fine := answering(ok + "Content-Length: 2\r\n\r\nok")
	bad := func(name string, change func(*x509.Certificate)) Animal {
		return Animal{Name: name, Outcomes: outcome(badTLS), live: fine, tls: func(n *nursery) *tls.Config {
			return &tls.Config{Certificates: []tls.Certificate{n.issue(change)}}
		}}
	}
	setting := func(name string, outcomes []string, change func(*tls.Config)) Animal {
		return Animal{Name: name, Outcomes: outcomes, live: fine, tls: func(n *nursery) *tls.Config {
			c := trustedHTTP1(n)
			change(c)
			return c
		}}
	}
	stranger := func(change func(*x509.Certificate)) func(*nursery) *tls.Config {
		return func(*nursery) *tls.Config {
			other, err := newNursery()
			if err != nil {
				panic(err)
			}
			return &tls.Config{Certificates: []tls.Certificate{other.issue(change)}}
		}
	}
	saying := func(text string) func(*visit) {
		return func(v *visit) {
			_, _ = v.in.ReadByte()
			_ = v.say(text)
		}
	}
	return []Animal{
		bad("has an expired certificate", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }),
		bad("has a certificate of tomorrow", func(c *x509.Certificate) { c.NotBefore = time.Now().Add(30 * time.Minute) }),
		bad("has a certificate of another name", func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"receiver.example"} }),
		bad("has a certificate of another address", func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 2)} }),
		bad("has its name in the common name only", func(c *x509.Certificate) { c.IPAddresses, c.Subject.CommonName = nil, "127.0.0.1" }),
		bad("has a client's certificate", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }),
		{Name: "has a certificate of an unknown CA", Outcomes: outcome(badTLS), live: fine, tls: stranger(func(*x509.Certificate) {})},
		{Name: "has a certificate of its own", Outcomes: outcome(badTLS), live: fine, tls: func(*nursery) *tls.Config {
			return &tls.Config{Certificates: []tls.Certificate{(&nursery{}).issue(func(*x509.Certificate) {})}}
		}},
		{Name: "has a long chain of nonsense", Outcomes: outcome(badTLS), live: fine, tls: func(n *nursery) *tls.Config {
			chain := stranger(func(*x509.Certificate) {})(n).Certificates[0]
			for len(chain.Certificate) < 90 {
				chain.Certificate = append(chain.Certificate, chain.Certificate[0])
			}
			return &tls.Config{Certificates: []tls.Certificate{chain}}
		}},
		setting("speaks TLS 1.0", outcome(badTLS), func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS10 }),
		setting("speaks TLS 1.1", outcome(badTLS), func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }),
		setting("wants a client certificate", outcome(badTLS), func(c *tls.Config) { c.ClientAuth = tls.RequireAnyClientCert }),
		setting("wants a client certificate over TLS 1.2", outcome(badTLS), func(c *tls.Config) { c.ClientAuth, c.MaxVersion = tls.RequireAnyClientCert, tls.VersionTLS12 }),
		setting("agrees on no protocol", outcome(badTLS), func(c *tls.Config) { c.NextProtos = []string{"spdy/1"} }),
		{Name: "speaks HTTP where TLS is due", Outcomes: outcome(badTLS), raw: true, live: saying(ok + "Content-Length: 2\r\n\r\nok")},
		{Name: "speaks nonsense where TLS is due", Outcomes: outcome(badTLS), raw: true, live: saying("\xff\x00\xff\x00\xff\x00\xff\x00")},
		{Name: "has an alert instead of a handshake", Outcomes: outcome(badTLS), raw: true, live: saying("\x15\x03\x03\x00\x02\x02\x28")},
		{Name: "has a record of the largest size", Outcomes: outcome(badTLS, connection), raw: true, live: saying("\x16\x03\x03\xff\xff")},
		{Name: "speaks TLS where HTTP is due", Outcomes: outcome(connection), live: saying("\x15\x03\x01\x00\x02\x02\x16")},
	}
}
