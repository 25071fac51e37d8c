// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"time"
)

// authority signs the certificates of one control plane. Its user may be from
// any goroutine.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	// PEM is the authority's own certificate.
	PEM []byte
}

// certLife is longer than any lab; a test's clock may run ahead by minutes.
const certLife = 7 * 24 * time.Hour

func newAuthority() (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make authority's key: %w", err)
	}
	template := certificate("fairlead-lab")
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage |= x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make authority's certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parse authority's certificate: %w", err)
	}
	return &authority{key: key, cert: cert, PEM: block("CERTIFICATE", der)}, nil
}

func certificate(name string, organizations ...string) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62))
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name, Organization: organizations},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(certLife),
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}
}

// client makes a certificate that the API server takes for the user in these groups.
func (a *authority) client(user string, groups ...string) (cert, key []byte, err error) {
	template := certificate(user, groups...)
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return a.sign(template)
}

// server makes a certificate for a server of these names and addresses.
func (a *authority) server(name string, names []string, addrs ...netip.Addr) (cert, key []byte, err error) {
	template := certificate(name)
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	template.DNSNames = names
	for _, addr := range addrs {
		template.IPAddresses = append(template.IPAddresses, net.IP(addr.AsSlice()))
	}
	return a.sign(template)
}

func (a *authority) sign(template *x509.Certificate) (cert, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make key of %s: %w", template.Subject.CommonName, err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, private.Public(), a.key)
	if err != nil {
		return nil, nil, fmt.Errorf("make certificate of %s: %w", template.Subject.CommonName, err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, fmt.Errorf("encode key of %s: %w", template.Subject.CommonName, err)
	}
	return block("CERTIFICATE", der), block("PRIVATE KEY", pkcs8), nil
}

// tokenKey makes the key that signs the tokens of ServiceAccounts.
func tokenKey() ([]byte, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, fmt.Errorf("make key of tokens: %w", err)
	}
	return block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key)), nil
}

func block(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// writePair writes PREFIX.crt and PREFIX.key.
func writePair(prefix string, cert, key []byte) error {
	return errors.Join(os.WriteFile(prefix+".crt", cert, 0o644), os.WriteFile(prefix+".key", key, 0o600))
}
