// SPDX-License-Identifier: Apache-2.0

package guard

import (
	"encoding/binary"
	"net/netip"
)

// Open is what an OPEN says (RFC 4271 section 4.2) as far as a session that only
// announces needs it. Other parameters and capabilities are walked over.
type Open struct {
	ASN      uint32
	HoldTime uint16 // seconds; 0: for ever
	RouterID netip.Addr
	// Families are those of the multiprotocol capability (RFC 4760); none: the
	// router speaks IPv4 unicast without saying so.
	Families []Family
	// FourOctet says that ASN is from the capability of RFC 6793.
	FourOctet bool
	// RouteRefresh is the capability of RFC 2918.
	RouteRefresh bool
	// ExtendedNextHop says that IPv4 routes may have IPv6 next hops (RFC 8950).
	ExtendedNextHop bool
	// Restart is the capability of RFC 4724; nil: the router has it not.
	Restart *Restart
}

// Restart is the graceful restart capability (RFC 4724 section 3).
type Restart struct {
	Restarting bool
	Time       uint16 // seconds, 12 bits
	Families   []RestartFamily
}

// RestartFamily is a family that the router keeps routes of.
type RestartFamily struct {
	Family
	Flags uint8
}

// Capability codes, and the type of the parameter that holds them (RFC 5492).
const (
	parameterCapabilities = 2

	capabilityMultiprotocol = 1
	capabilityRouteRefresh  = 2
	capabilityNextHop       = 5
	capabilityRestart       = 64
	capabilityFourOctetASN  = 65
)

const (
	openLen     = HeaderLen + 10
	bgpVersion  = 4
	transASN    = 23456 // AS_TRANS, RFC 6793
	restartFlag = 0x8000
	restartTime = 0x0fff
	// maxFamilies bounds what is kept of an OPEN; FRR names fewer.
	maxFamilies = 32
)

// nextHopIPv4byIPv6 is the capability's entry of IPv4 unicast (AFI, SAFI of two
// bytes) with next hops of AFI 2.
var nextHopIPv4byIPv6 = [6]byte{0, 1, 0, 1, 0, 2}

// ParseOpen reads a whole OPEN.
func ParseOpen(message []byte) (*Open, error) {
	if len(message) < openLen {
		return nil, malformed("OPEN of %d bytes, want at least %d", len(message), openLen)
	}
	b := message[HeaderLen:]
	if b[0] != bgpVersion {
		return nil, malformed("OPEN of version %d, want %d", b[0], bgpVersion)
	}
	o := &Open{
		ASN:      uint32(binary.BigEndian.Uint16(b[1:])),
		HoldTime: binary.BigEndian.Uint16(b[3:]),
		RouterID: netip.AddrFrom4([4]byte(b[5:9])),
	}
	if o.HoldTime == 1 || o.HoldTime == 2 {
		return nil, malformed("OPEN with hold time %d s, want 0 or at least 3", o.HoldTime)
	}
	// A length of 255 with more behind it would be RFC 9072's, for parameters
	// that do not fit 255 bytes.
	if len(b[10:]) != int(b[9]) {
		return nil, malformed("OPEN with %d bytes of parameters and a length that says %d", len(b[10:]), b[9])
	}
	return o, o.parameters(b[10:])
}

// parameters walks through the optional parameters.
func (o *Open) parameters(b []byte) error {
	return walk(b, "parameter", func(kind uint8, value []byte) error {
		if kind != parameterCapabilities {
			return nil
		}
		return walk(value, "capability", o.capability)
	})
}

// walk calls fn for each triple of type, length and value.
func walk(b []byte, what string, fn func(kind uint8, value []byte) error) error {
	for len(b) > 0 {
		if len(b) < 2 || len(b)-2 < int(b[1]) {
			return malformed("OPEN with a %s that ends behind what holds it", what)
		}
		if err := fn(b[0], b[2:2+int(b[1])]); err != nil {
			return err
		}
		b = b[2+int(b[1]):]
	}
	return nil
}

func (o *Open) capability(code uint8, value []byte) error {
	bad := malformed("OPEN with capability %d of %d bytes", code, len(value))
	switch code {
	case capabilityMultiprotocol:
		if len(value) != 4 {
			return bad
		}
		if len(o.Families) < maxFamilies {
			o.Families = append(o.Families, Family{binary.BigEndian.Uint16(value), value[3]})
		}
	case capabilityRouteRefresh:
		if len(value) != 0 {
			return bad
		}
		o.RouteRefresh = true
	case capabilityNextHop:
		if len(value)%6 != 0 {
			return bad
		}
		for v := value; len(v) > 0; v = v[6:] {
			o.ExtendedNextHop = o.ExtendedNextHop || [6]byte(v) == nextHopIPv4byIPv6
		}
	case capabilityFourOctetASN:
		if len(value) != 4 {
			return bad
		}
		o.ASN, o.FourOctet = binary.BigEndian.Uint32(value), true
	case capabilityRestart:
		if len(value) < 2 || len(value)%4 != 2 {
			return bad
		}
		flags := binary.BigEndian.Uint16(value)
		o.Restart = &Restart{Restarting: flags&restartFlag != 0, Time: flags & restartTime}
		for v := value[2:]; len(v) > 0 && len(o.Restart.Families) < maxFamilies; v = v[4:] {
			o.Restart.Families = append(o.Restart.Families, RestartFamily{Family{binary.BigEndian.Uint16(v), v[2]}, v[3]})
		}
	}
	return nil
}

// Has says whether the router speaks the family.
func (o *Open) Has(f Family) bool {
	for _, have := range o.Families {
		if have == f {
			return true
		}
	}
	return len(o.Families) == 0 && f == IPv4
}

// Append appends an OPEN with what Open knows of it, of the families that
// Fairlead announces, and nothing else: of the bytes that a router chose, a
// reader of this one sees only fixed fields.
func (o *Open) Append(b []byte) []byte {
	asn := uint16(transASN)
	if o.ASN <= 0xffff {
		asn = uint16(o.ASN)
	}
	body := binary.BigEndian.AppendUint16([]byte{bgpVersion}, asn)
	body = binary.BigEndian.AppendUint16(body, o.HoldTime)
	id := o.RouterID.As4()
	body = append(body, id[:]...)
	capabilities := o.appendCapabilities(nil)
	if len(capabilities) == 0 {
		return AppendMessage(b, TypeOpen, append(body, 0)...)
	}
	body = append(body, byte(2+len(capabilities)), parameterCapabilities, byte(len(capabilities)))
	return AppendMessage(b, TypeOpen, append(body, capabilities...)...)
}

func (o *Open) appendCapabilities(b []byte) []byte {
	for _, f := range []Family{IPv4, IPv6} {
		if len(o.Families) > 0 && o.Has(f) {
			b = append(b, capabilityMultiprotocol, 4, 0, byte(f.AFI), 0, f.SAFI)
		}
	}
	if o.RouteRefresh {
		b = append(b, capabilityRouteRefresh, 0)
	}
	if o.FourOctet {
		b = binary.BigEndian.AppendUint32(append(b, capabilityFourOctetASN, 4), o.ASN)
	}
	if o.ExtendedNextHop {
		b = append(append(b, capabilityNextHop, 6), nextHopIPv4byIPv6[:]...)
	}
	if r := o.Restart; r != nil {
		b = r.appendCapability(b)
	}
	return b
}

func (r *Restart) appendCapability(b []byte) []byte {
	flags := r.Time
	if r.Restarting {
		flags |= restartFlag
	}
	value := binary.BigEndian.AppendUint16(nil, flags)
	for _, want := range []Family{IPv4, IPv6} {
		for _, f := range r.Families {
			if f.Family == want {
				value = append(binary.BigEndian.AppendUint16(value, f.AFI), f.SAFI, f.Flags)
				break
			}
		}
	}
	return append(append(b, capabilityRestart, byte(len(value))), value...)
}
