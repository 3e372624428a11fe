package apitest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"strings"
	"time"

	"github.com/posthaste-hq/posthaste/internal/endpoint"
)

// EndpointParams returns a value other than the default for each field of an endpoint, in a
// combination that the server accepts for a disabled endpoint.
func EndpointParams() endpoint.Params {
	certificate, key := selfSigned()
	p := endpoint.Params{}
	for i := range endpoint.Fields {
		p[endpoint.Fields[i].Name] = sample(&endpoint.Fields[i])
	}
	p["ca_certificates"] = certificate
	p["client_certificate"] = endpoint.Params{"certificate": certificate, "private_key": key}
	p["authentication"] = endpoint.Params{"type": "basic", "username": "shop", "password": "sample password"}
	p["signature_template"] = endpoint.Params{"algorithm": "sha512", "encoding": "base64", "key": "text", "each": "v1={signature}", "join": "space", "id_header": "X-Acme-Id", "timestamp_header": "X-Acme-Time", "type_header": "X-Acme-Type", "content": "{timestamp}.{body}", "header": "X-Acme-Signature", "value": "t={timestamp},{signatures}"}
	p["secret"] = "whsec_" + strings.Repeat("YWJj", 8)
	return p
}

func sample(f *endpoint.Field) any {
	switch f.Kind {
	case endpoint.ChoiceField:
		if f.Options[0].Value == f.Default {
			return f.Options[1].Value
		}
		return f.Options[0].Value
	case endpoint.ListField:
		if f.Options != nil {
			return strings.Split(f.Options[1].Value, ",")
		}
		return []string{"payment.*"}
	case endpoint.PairsField:
		value := "sample"
		return map[string]*string{"X-Sample": &value}
	case endpoint.IntegerField:
		return int(f.Max)
	case endpoint.NumberField:
		return f.Max
	case endpoint.SecondsField:
		return time.Duration(f.Max) * time.Second
	case endpoint.DelaysField:
		return []time.Duration{time.Duration(f.Min) * time.Second, time.Duration(f.MaxItem) * time.Second}
	}
	if f.Example != "" {
		return f.Example
	}
	return "sample of " + f.Name
}

// selfSigned returns a certificate with its key, both PEM.
func selfSigned() (certificate, key string) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		panic(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		panic(err)
	}
	return strings.TrimSpace(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}))
}
