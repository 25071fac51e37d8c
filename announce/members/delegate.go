// SPDX-License-Identifier: Apache-2.0

package members

import (
	"bytes"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"
)

// delegate is what memberlist calls. It holds locks of its own meanwhile, so
// nothing here calls it back.
type delegate Members

var (
	_ memberlist.Delegate         = (*delegate)(nil)
	_ memberlist.EventDelegate    = (*delegate)(nil)
	_ memberlist.PingDelegate     = (*delegate)(nil)
	_ memberlist.ConflictDelegate = (*delegate)(nil)
)

func (d *delegate) NotifyJoin(n *memberlist.Node) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.gone, n.Name)
	addr, _ := netip.AddrFromSlice(n.Addr)
	d.members[n.Name] = Member{
		Name: n.Name, Addr: netip.AddrPortFrom(addr.Unmap(), n.Port), Meta: bytes.Clone(n.Meta), Since: time.Now(),
	}
	if n.Name != d.config.Name {
		d.counts.Joined++
		// It was heard just now.
		d.lastAck = time.Now()
	}
	signal(d.look)
}

func (d *delegate) NotifyLeave(n *memberlist.Node) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gone[n.Name] = d.members[n.Name]
	delete(d.members, n.Name)
	if n.Name != d.config.Name {
		d.counts.Lost++
	}
	signal(d.look)
}

func (d *delegate) NotifyUpdate(n *memberlist.Node) {
	d.mu.Lock()
	defer d.mu.Unlock()
	member := d.members[n.Name]
	member.Meta, d.news = bytes.Clone(n.Meta), true
	d.members[n.Name] = member
	signal(d.look)
}

func (d *delegate) NotifyPingComplete(*memberlist.Node, time.Duration, []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lastAck = time.Now()
}

func (d *delegate) NotifyConflict(*memberlist.Node, *memberlist.Node) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.counts.NameConflicts++
}

func (d *delegate) NodeMeta(int) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.meta
}

// The rest of memberlist.Delegate is for messages of one's own; there are none.

func (d *delegate) AckPayload() []byte              { return nil }
func (d *delegate) NotifyMsg([]byte)                {}
func (d *delegate) GetBroadcasts(_, _ int) [][]byte { return nil }
func (d *delegate) LocalState(bool) []byte          { return nil }
func (d *delegate) MergeRemoteState([]byte, bool)   {}
