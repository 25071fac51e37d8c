// SPDX-License-Identifier: Apache-2.0

// Package guard judges what a router may say to the BGP implementation behind
// it, on road A. Fairlead announces and takes no routes: of a router's messages
// only those that a session needs go through, none as the router wrote it where
// it has a choice. No UPDATE goes through but End-of-RIB, so that neither a full
// table nor a crafted attribute reaches anything that parses attributes.
package guard

import "time"

// Reason is what a message is judged to be; there is a counter for each.
type Reason uint8

// The reasons. Messages go on for the first four.
const (
	ReasonOpen Reason = iota
	ReasonKeepalive
	ReasonRouteRefresh
	ReasonEndOfRIB
	ReasonNotification
	// ReasonUpdate: an UPDATE with routes, or with anything else that is not an
	// End-of-RIB of a family of ours, or a second of those.
	ReasonUpdate
	// ReasonForeignRefresh: a ROUTE-REFRESH of a family or kind that is not ours.
	ReasonForeignRefresh
	// ReasonRefreshRate: more ROUTE-REFRESH than a router that works sends.
	ReasonRefreshRate
	// ReasonMalformed: the message breaks the RFCs.
	ReasonMalformed
	// ReasonOutOfOrder: a message at a time when RFC 4271 has no place for it.
	ReasonOutOfOrder

	Reasons // how many
)

var reasonNames = [Reasons]string{
	"open", "keepalive", "route_refresh", "end_of_rib", "notification",
	"update", "foreign_refresh", "refresh_rate", "malformed", "out_of_order",
}

func (r Reason) String() string { return reasonNames[r] }

// Limits of what goes through.
const (
	// A ROUTE-REFRESH makes us send everything again.
	refreshBurst    = 8
	refreshInterval = 10 * time.Second
	// A router that sends UPDATEs need not send KEEPALIVEs besides (RFC 4271
	// section 10), and both keep the session alive: in place of dropped UPDATEs
	// a KEEPALIVE goes on, this often at most.
	keepaliveInterval = time.Second
)

// Guard judges one session. The zero value is a session before the router's
// OPEN. One goroutine at a time.
type Guard struct {
	open        *Open
	confirmed   bool // the router's first KEEPALIVE went through
	ended       map[Family]bool
	refreshes   int // used up of refreshBurst
	refreshedAt time.Time
	keptAt      time.Time
}

// Open is the router's OPEN, nil before it.
func (g *Guard) Open() *Open { return g.open }

// Established says that both sides have accepted the session.
func (g *Guard) Established() bool { return g.confirmed }

// Judge judges a whole message, whose header ParseHeader accepted, and appends
// to b what goes on in its place: the message, less, or nothing. An error ends
// the session: a Notification, or one that is ErrMalformed.
func (g *Guard) Judge(b, message []byte, now time.Time) ([]byte, Reason, error) {
	switch Type(message[18]) {
	case TypeOpen:
		return g.judgeOpen(b, message)
	case TypeNotification:
		n, err := ParseNotification(message)
		if err != nil {
			return b, ReasonMalformed, err
		}
		return b, ReasonNotification, n
	case TypeKeepalive:
		return g.judgeKeepalive(b, message, now)
	}
	if !g.confirmed {
		return b, ReasonOutOfOrder, malformed("type %d before the session is established", message[18])
	}
	if Type(message[18]) == TypeRouteRefresh {
		return g.judgeRefresh(b, message, now)
	}
	return g.judgeUpdate(b, message, now)
}

func (g *Guard) judgeOpen(b, message []byte) ([]byte, Reason, error) {
	if g.open != nil {
		return b, ReasonOutOfOrder, malformed("second OPEN")
	}
	open, err := ParseOpen(message)
	if err != nil {
		return b, ReasonMalformed, err
	}
	g.open, g.ended = open, map[Family]bool{}
	return open.Append(b), ReasonOpen, nil
}

func (g *Guard) judgeKeepalive(b, message []byte, now time.Time) ([]byte, Reason, error) {
	switch {
	case len(message) != HeaderLen:
		return b, ReasonMalformed, malformed("KEEPALIVE of %d bytes, want %d", len(message), HeaderLen)
	case g.open == nil:
		return b, ReasonOutOfOrder, malformed("KEEPALIVE before OPEN")
	}
	first := !g.confirmed
	g.confirmed = true
	if !first && now.Sub(g.keptAt) < keepaliveInterval {
		return b, ReasonKeepalive, nil
	}
	g.keptAt = now
	return append(b, message...), ReasonKeepalive, nil
}

// judgeRefresh wants the plain kind (RFC 2918), not the marks of RFC 7313 or the
// filters of RFC 5291, which Fairlead says nothing of.
func (g *Guard) judgeRefresh(b, message []byte, now time.Time) ([]byte, Reason, error) {
	body := message[HeaderLen:]
	if len(body) < 4 {
		return b, ReasonMalformed, malformed("ROUTE-REFRESH of %d bytes, want %d", len(message), HeaderLen+4)
	}
	family := Family{uint16(body[0])<<8 | uint16(body[1]), body[3]}
	if len(body) != 4 || body[2] != 0 || !g.speaks(family) {
		return b, ReasonForeignRefresh, nil
	}
	if earned := int(now.Sub(g.refreshedAt) / refreshInterval); earned > 0 {
		g.refreshes = max(0, g.refreshes-earned)
		g.refreshedAt = now
	}
	if g.refreshes >= refreshBurst {
		return b, ReasonRefreshRate, nil
	}
	g.refreshes++
	return append(b, message...), ReasonRouteRefresh, nil
}

func (g *Guard) speaks(f Family) bool { return (f == IPv4 || f == IPv6) && g.open.Has(f) }

func (g *Guard) judgeUpdate(b, message []byte, now time.Time) ([]byte, Reason, error) {
	if family, ok := endOfRIB(message); ok && g.speaks(family) && !g.ended[family] {
		g.ended[family] = true
		return appendEndOfRIB(b, family), ReasonEndOfRIB, nil
	}
	if now.Sub(g.keptAt) < keepaliveInterval {
		return b, ReasonUpdate, nil
	}
	g.keptAt = now
	return AppendMessage(b, TypeKeepalive), ReasonUpdate, nil
}

func appendEndOfRIB(b []byte, f Family) []byte {
	if f == IPv4 {
		return AppendMessage(b, TypeUpdate, 0, 0, 0, 0)
	}
	return AppendMessage(b, TypeUpdate, 0, 0, 0, 6, 0x80, 15, 3, byte(f.AFI>>8), byte(f.AFI), f.SAFI)
}
