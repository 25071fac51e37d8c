// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"sync/atomic"

	"github.com/fairlead/fairlead/lb/packet"
)

// PathMTUTicks is how long a path MTU is believed: ten minutes (RFC 1191
// section 6.3). abi.h has the same number.
const PathMTUTicks = 8940

// pathMTU is what routers said about the way to a node: the MTU, and from bit
// 32 on the last tick at which it counts. 0 is nothing. All Forwarders of a
// node share it.
type pathMTU struct{ word atomic.Uint64 }

func (p *pathMTU) forget() { p.word.Store(0) }

// limit is the MTU in force on a way that begins with an uplink of this MTU.
func (p *pathMTU) limit(uplink int, now uint32) int { return limitOf(p.word.Load(), uplink, now) }

func limitOf(word uint64, uplink int, now uint32) int {
	if word == 0 || int32(uint32(word>>32)-now) < 0 {
		return uplink
	}
	return min(uplink, int(word&0xffff))
}

// learn believes an MTU that is lower than what is in force; below minMTU
// there is no way that IPv6 could use.
func (p *pathMTU) learn(mtu, uplink int, now uint32) {
	mtu = max(mtu, minMTU)
	for {
		word := p.word.Load()
		if mtu >= limitOf(word, uplink, now) {
			return
		}
		if p.word.CompareAndSwap(word, uint64(now+PathMTUTicks)<<32|uint64(mtu)) {
			return
		}
	}
}

// tunnelError learns from a router's error about a packet that this node sent
// to another one. Types that say nothing about the path's MTU are only counted.
func (f *Forwarder) tunnelError(d *decision) Reason {
	p := d.pkt
	tooBig := p.Version == 6 && p.ICMPType == packet.ICMPv6TooBig ||
		p.Version == 4 && p.ICMPType == packet.ICMPUnreachable && p.Frame[p.L4+1] == packet.ICMPCodeTooBig
	if id, ok := f.tables.nodeIDs.get(keyAt(&p.Src, 0, 0)); tooBig && ok {
		f.tables.nodes[id].path.learn(int(p.MTU), f.mtu, d.now)
	}
	return TunnelError
}
