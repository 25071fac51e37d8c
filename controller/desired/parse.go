// SPDX-License-Identifier: Apache-2.0

package desired

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/fairlead/fairlead/lb"
)

// What stands where the file is silent.
const (
	DefaultPinPath = "/sys/fs/bpf/fairlead"
	DefaultSocket  = "/run/fairlead/agent.sock"

	defaultGenevePort      = 6180
	defaultPast            = 24 * time.Hour
	defaultAffinityTimeout = 3 * time.Hour
)

var defaultLimits = Limits{Flows: 1 << 20, Services: 1 << 14, Backends: 1 << 16, TableMemory: 64 << 20}

// Bounds of what can be asked for.
const (
	maxFlows       = 1 << 27
	maxServices    = 1 << 20
	maxBackends    = 1 << 22
	minTableMemory = 1 << 20
	maxTableMemory = 1 << 30 // a table reference has 24 bits for the 64-byte line
	maxSocketPath  = 107     // sun_path of unix(7) with its final zero
	maxInterface   = 15      // IFNAMSIZ with its final zero
	cniGenevePort  = 6081    // IANA's, used by Cilium, OVN and Antrea
)

// nodeName is what Kubernetes allows: a DNS subdomain.
var nodeName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)

// Parse reads the standalone configuration and checks all of it. The error
// joins every problem, each with its path; there is no Snapshot then. readFile
// serves keyFile and is called for nothing else.
func Parse(data []byte, readFile func(string) ([]byte, error)) (*Snapshot, error) {
	p := &parser{
		owners: map[netip.Addr]owner{}, vipPaths: map[netip.Addr]string{}, keys: map[lb.ServiceKey]string{},
		readFile: readFile,
	}
	root, err := document(data, &p.problems)
	if err != nil {
		return nil, err
	}
	top := root.fields("node", "interfaces", "xdpMode", "pinPath", "socket", "genevePort", "key", "previousKey",
		"keyFile", "pastTimeout", "limits", "nodes", "services")
	p.settings(top)
	p.nodes(top["nodes"], top["node"])
	p.services(top["services"])
	if len(p.problems) > 0 {
		return nil, errors.Join(p.problems...)
	}
	if _, err := p.snapshot.Table(); err != nil {
		return nil, err
	}
	p.snapshot.Revision = revision(data)
	return &p.snapshot, nil
}

// ParseSettings reads the configuration of an agent in Kubernetes: what concerns
// the node alone. The rest, which the API tells, is empty in the Snapshot; so are
// Interfaces, where the file leaves them open. Errors are as with Parse.
func ParseSettings(data []byte) (*Snapshot, error) {
	p := &parser{}
	root, err := document(data, &p.problems)
	if err != nil {
		return nil, err
	}
	p.local(root.fields("interfaces", "xdpMode", "pinPath", "socket", "genevePort", "pastTimeout", "limits"), 0)
	if len(p.problems) > 0 {
		return nil, errors.Join(p.problems...)
	}
	p.snapshot.Revision = revision(data)
	return &p.snapshot, nil
}

func revision(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:6])
}

// parser collects the Snapshot and what is checked across its parts.
type parser struct {
	problems []error
	snapshot Snapshot
	owners   map[netip.Addr]owner // which node an address is on
	vipPaths map[netip.Addr]string
	keys     map[lb.ServiceKey]string // path of each service port
	readFile func(string) ([]byte, error)
}

type owner struct{ node, path string }

func (p *parser) settings(top map[string]value) {
	p.snapshot.Settings.Node = p.name(top["node"])
	p.local(top, 1)
	p.snapshot.Settings.Keys = p.wireKeys(top["key"], top["keyFile"], top["previousKey"])
}

// local reads what no other node has to know of. So many interfaces there are at least.
func (p *parser) local(top map[string]value, interfaces int) {
	s := &p.snapshot.Settings
	s.Interfaces = p.interfaces(top["interfaces"], interfaces)
	s.XDPMode = top["xdpMode"].choice("auto", "native", "generic", "off")
	s.PinPath = p.path(top["pinPath"], DefaultPinPath)
	s.Socket = p.path(top["socket"], DefaultSocket)
	if len(s.Socket) > maxSocketPath {
		top["socket"].fail("want at most %d bytes, have %d", maxSocketPath, len(s.Socket))
	}
	s.GenevePort = uint16(top["genevePort"].number(1, 65535, defaultGenevePort))
	if s.GenevePort == cniGenevePort {
		top["genevePort"].fail("is left to CNIs: want another port")
	}
	s.Past = top["pastTimeout"].duration(time.Second, 30*24*time.Hour, defaultPast)
	s.Limits = p.limits(top["limits"])
}

// name returns the name of a node, "" where there is no valid one.
func (p *parser) name(v value) string {
	v.required()
	name, ok := v.text()
	if ok && (len(name) > 253 || !nodeName.MatchString(name)) {
		v.fail("want a DNS name in lower case")
		return ""
	}
	return name
}

func (p *parser) interfaces(v value, least int) []string {
	var names []string
	for _, element := range v.list(least) {
		name, ok := element.text()
		switch {
		case !ok:
		case len(name) < 1, len(name) > maxInterface:
			element.fail("want 1 to %d bytes, have %d", maxInterface, len(name))
		case name == ".", name == "..", strings.ContainsFunc(name, notInDeviceName):
			element.fail("want the name of a network device, without slash, colon or space")
		default:
			names = appendOnce(names, element, name)
		}
	}
	return names
}

func notInDeviceName(r rune) bool { return r <= ' ' || r > '~' || r == '/' || r == ':' }

// appendOnce appends, or reports what is in the list already.
func appendOnce[T comparable](list []T, v value, one T) []T {
	if slices.Contains(list, one) {
		v.fail("listed twice")
		return list
	}
	return append(list, one)
}

func (p *parser) path(v value, otherwise string) string {
	name, ok := v.text()
	switch {
	case !ok:
		return otherwise
	case !path.IsAbs(name), strings.ContainsRune(name, 0):
		v.fail("want an absolute path")
		return otherwise
	}
	return path.Clean(name)
}

// wireKeys takes the key from one of two places. No key is ever shown.
func (p *parser) wireKeys(inline, file, previous value) [][16]byte {
	var keys [][16]byte
	switch {
	case inline.given() && file.given():
		file.report("given beside key: want one of them")
	case file.given():
		keys = p.keysOfFile(file)
	case inline.required():
		keys = p.inlineKey(inline)
	}
	if previous.given() {
		keys = append(keys, p.inlineKey(previous)...)
	}
	if len(keys) > 2 {
		previous.report("given beside a keyFile with two keys: want one of them")
	}
	return keys
}

func (p *parser) inlineKey(v value) [][16]byte {
	// As written: digits alone are a number to YAML.
	raw, ok := v.scalar("32 hex digits")
	if !ok {
		return nil
	}
	return hexKey(v, "", raw)
}

func (p *parser) keysOfFile(v value) [][16]byte {
	name := p.path(v, "")
	if name == "" {
		return nil
	}
	data, err := p.readFile(name)
	if err != nil {
		v.fail("%v", err)
		return nil
	}
	lines := strings.Fields(string(data))
	if len(lines) < 1 || len(lines) > 2 {
		v.fail("holds %d keys: want one, or two with the previous one second", len(lines))
		return nil
	}
	var keys [][16]byte
	for i, line := range lines {
		keys = append(keys, hexKey(v, fmt.Sprintf("%s: key %d: ", v.shown(), i+1), line)...)
	}
	return keys
}

func hexKey(v value, where, text string) [][16]byte {
	key, err := ParseKey(text)
	if err != nil {
		v.report("%s%v", where, err)
		return nil
	}
	return [][16]byte{key}
}

// ParseKey reads a key for the wire. An error does not show it.
func ParseKey(text string) ([16]byte, error) {
	raw, err := hex.DecodeString(text)
	switch {
	case len(text) != 32:
		return [16]byte{}, fmt.Errorf("%d characters: want 32 hex digits", len(text))
	case err != nil:
		return [16]byte{}, errors.New("no hexadecimal number: want 32 hex digits")
	case [16]byte(raw) == [16]byte{}:
		return [16]byte{}, errors.New("all digits are 0: want a random key")
	}
	return [16]byte(raw), nil
}

func (p *parser) limits(v value) Limits {
	f := v.fields("flows", "services", "backends", "tableMemory")
	l := Limits{
		Flows:       f["flows"].number(1024, maxFlows, defaultLimits.Flows),
		Services:    f["services"].number(1, maxServices, defaultLimits.Services),
		Backends:    f["backends"].number(1, maxBackends, defaultLimits.Backends),
		TableMemory: f["tableMemory"].memory(minTableMemory, maxTableMemory, defaultLimits.TableMemory),
	}
	if l.Flows&(l.Flows-1) != 0 {
		f["flows"].fail("want a power of two")
	}
	return l
}
