// SPDX-License-Identifier: Apache-2.0

package guard

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Lengths of messages (RFC 4271 section 4.1), in bytes.
const (
	HeaderLen = 19
	MaxLen    = 4096
)

// Type is what kind of message it is (RFC 4271 section 4.1, RFC 2918).
type Type uint8

// The types.
const (
	TypeOpen         Type = 1
	TypeUpdate       Type = 2
	TypeNotification Type = 3
	TypeKeepalive    Type = 4
	TypeRouteRefresh Type = 5
)

// ErrMalformed is the kind of every error about a message that breaks the RFCs.
var ErrMalformed = errors.New("malformed BGP message")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// ParseHeader returns the length of the message that begins with these
// HeaderLen bytes, header included, and its type.
func ParseHeader(header []byte) (length int, t Type, err error) {
	if len(header) < HeaderLen {
		return 0, 0, malformed("header of %d bytes, want %d", len(header), HeaderLen)
	}
	for _, b := range header[:16] {
		if b != 0xff {
			return 0, 0, malformed("marker is not all ones")
		}
	}
	length, t = int(binary.BigEndian.Uint16(header[16:])), Type(header[18])
	if length < HeaderLen || length > MaxLen {
		return 0, 0, malformed("length %d, want %d to %d", length, HeaderLen, MaxLen)
	}
	if t < TypeOpen || t > TypeRouteRefresh {
		return 0, 0, malformed("type %d", t)
	}
	return length, t, nil
}

// AppendMessage appends a message with its header.
func AppendMessage(b []byte, t Type, body ...byte) []byte {
	for range 16 {
		b = append(b, 0xff)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(HeaderLen+len(body)))
	return append(append(b, byte(t)), body...)
}

// Family is an address family and subsequent family (RFC 4760).
type Family struct {
	AFI  uint16
	SAFI uint8
}

// The families that Fairlead announces.
var (
	IPv4 = Family{1, 1}
	IPv6 = Family{2, 1}
)

func (f Family) String() string {
	switch f {
	case IPv4:
		return "ipv4-unicast"
	case IPv6:
		return "ipv6-unicast"
	}
	return fmt.Sprintf("afi %d safi %d", f.AFI, f.SAFI)
}

// endOfRIB is the family whose End-of-RIB the UPDATE is (RFC 4724 section 2):
// one without anything for IPv4, one with an MP_UNREACH_NLRI that withdraws
// nothing for others.
func endOfRIB(message []byte) (Family, bool) {
	body := message[HeaderLen:]
	switch len(body) {
	case 4:
		return IPv4, [4]byte(body) == [4]byte{}
	case 10: // attribute of 6 bytes: flags, type 15, length 3, AFI, SAFI
		if binary.BigEndian.Uint32(body) == 6 && body[4] == 0x80 && body[5] == 15 && body[6] == 3 {
			return Family{binary.BigEndian.Uint16(body[7:]), body[9]}, true
		}
	case 11: // the same with a length of two bytes
		if binary.BigEndian.Uint32(body) == 7 && body[4] == 0x90 && body[5] == 15 && binary.BigEndian.Uint16(body[6:]) == 3 {
			return Family{binary.BigEndian.Uint16(body[8:]), body[10]}, true
		}
	}
	return Family{}, false
}

// Notification is why a session ends (RFC 4271 section 4.5). As an error it is
// one that the router sent.
type Notification struct {
	Code, Subcode uint8
	// Text is what the operator of the router says (RFC 9003), if anything.
	Text string
}

// ParseNotification reads a whole NOTIFICATION.
func ParseNotification(message []byte) (Notification, error) {
	if len(message) < HeaderLen+2 {
		return Notification{}, malformed("NOTIFICATION of %d bytes, want at least %d", len(message), HeaderLen+2)
	}
	n := Notification{Code: message[HeaderLen], Subcode: message[HeaderLen+1]}
	data := message[HeaderLen+2:]
	shutdown := n.Code == CodeCease && (n.Subcode == CeaseShutdown || n.Subcode == CeaseReset)
	if shutdown && len(data) > 0 && int(data[0]) <= len(data)-1 {
		n.Text = string(data[1 : 1+int(data[0])])
	}
	return n, nil
}

// Append appends the NOTIFICATION as a message, without its text.
func (n Notification) Append(b []byte) []byte {
	return AppendMessage(b, TypeNotification, n.Code, n.Subcode)
}

// Codes of NOTIFICATIONs (RFC 4271 section 4.5) and subcodes of Cease (RFC
// 4486, RFC 9384).
const (
	CodeHeader      = 1
	CodeOpen        = 2
	CodeFSM         = 5
	CodeCease       = 6
	OpenBadPeerAS   = 2
	OpenUnsupported = 7

	CeaseShutdown     = 2
	CeaseDeconfigured = 3
	CeaseReset        = 4
	CeaseBFDDown      = 10
)

func (n Notification) Error() string { return "router sent NOTIFICATION " + n.String() }

var codeNames = map[uint8]string{
	CodeHeader: "message header error", CodeOpen: "OPEN message error", 3: "UPDATE message error",
	4: "hold timer expired", CodeFSM: "finite state machine error", CodeCease: "cease", 7: "ROUTE-REFRESH message error",
}

var subcodeNames = map[[2]uint8]string{
	{CodeOpen, 1}: "unsupported version number", {CodeOpen, OpenBadPeerAS}: "bad peer AS", {CodeOpen, 3}: "bad BGP identifier",
	{CodeOpen, 4}: "unsupported optional parameter", {CodeOpen, 6}: "unacceptable hold time", {CodeOpen, OpenUnsupported}: "unsupported capability",
	{CodeCease, 1}: "maximum number of prefixes reached", {CodeCease, CeaseShutdown}: "administrative shutdown",
	{CodeCease, CeaseDeconfigured}: "peer de-configured", {CodeCease, CeaseReset}: "administrative reset",
	{CodeCease, 5}: "connection rejected", {CodeCease, 6}: "other configuration change", {CodeCease, 7}: "connection collision resolution",
	{CodeCease, 8}: "out of resources", {CodeCease, 9}: "hard reset", {CodeCease, CeaseBFDDown}: "BFD down",
}

func (n Notification) String() string {
	text := fmt.Sprintf("%d/%d", n.Code, n.Subcode)
	if name := codeNames[n.Code]; name != "" {
		text += " " + name
	}
	if name := subcodeNames[[2]uint8{n.Code, n.Subcode}]; name != "" {
		text += ": " + name
	}
	if n.Text != "" {
		text += fmt.Sprintf(" (%q)", n.Text)
	}
	return text
}
