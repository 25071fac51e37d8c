/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Fragments: only the first of a datagram has ports. It is remembered, and
 * those that come later follow it, on their way in and on their way out.
 */
#ifndef FAIRLEAD_FRAGMENT_H
#define FAIRLEAD_FRAGMENT_H

#include "hash.h"
#include "maps.h"

static __always_inline void fragment_key_fill(struct lb_fragment_key *key, const struct lb_pkt *pkt)
{
	__builtin_memcpy(key->src, pkt->src, sizeof(key->src));
	__builtin_memcpy(key->dst, pkt->dst, sizeof(key->dst));
	key->id = pkt->fragment_id;
	key->proto = pkt->proto;
}

/* Best effort: without it the rest of the datagram is dropped and counted. */
LB_GLOBAL int fragment_record(struct lb_pkt *pkt)
{
	struct lb_fragment_key key __attribute__((aligned(8))) = {};
	struct lb_fragment_ports ports = {};

	if (!pkt)
		return 0;
	ports.sport = pkt->sport;
	ports.dport = pkt->dport;
	ports.seen = tick_now();
	fragment_key_fill(&key, pkt);
	bpf_map_update_elem(&fragments, &key, &ports, BPF_ANY);
	return 0;
}

/* Gives a later fragment the ports of its first; returns whether there is one. */
LB_GLOBAL int fragment_follow(struct lb_pkt *pkt)
{
	struct lb_fragment_key key __attribute__((aligned(8))) = {};
	struct lb_fragment_ports *ports;

	if (!pkt)
		return 0;
	fragment_key_fill(&key, pkt);
	ports = bpf_map_lookup_elem(&fragments, &key);
	if (!ports || (__s32)(tick_now() - ports->seen) > LB_FRAGMENT_TICKS)
		return 0;
	pkt->sport = ports->sport;
	pkt->dport = ports->dport;
	pkt->followed = 1;
	return 1;
}

#endif
