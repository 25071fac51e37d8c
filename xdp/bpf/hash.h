/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The three hashes: of a flow (all nodes agree), of a flow's bucket (this
 * node's secret) and of an option (the cluster's secret).
 */
#ifndef FAIRLEAD_HASH_H
#define FAIRLEAD_HASH_H

#include "packet.h"

/* SipHash-1-3: Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012. */
struct lb_sip {
	__u64 v0, v1, v2, v3;
};

#define LB_ROTL(x, n) ((x) << (n) | (x) >> (64 - (n)))

static __always_inline void sip_round(struct lb_sip *s)
{
	s->v0 += s->v1;
	s->v1 = LB_ROTL(s->v1, 13) ^ s->v0;
	s->v0 = LB_ROTL(s->v0, 32);
	s->v2 += s->v3;
	s->v3 = LB_ROTL(s->v3, 16) ^ s->v2;
	s->v0 += s->v3;
	s->v3 = LB_ROTL(s->v3, 21) ^ s->v0;
	s->v2 += s->v1;
	s->v1 = LB_ROTL(s->v1, 17) ^ s->v2;
	s->v2 = LB_ROTL(s->v2, 32);
}

static __always_inline void sip_init(struct lb_sip *s, __u64 key0, __u64 key1)
{
	s->v0 = key0 ^ 0x736f6d6570736575;
	s->v1 = key1 ^ 0x646f72616e646f6d;
	s->v2 = key0 ^ 0x6c7967656e657261;
	s->v3 = key1 ^ 0x7465646279746573;
}

static __always_inline void sip_word(struct lb_sip *s, __u64 word)
{
	s->v3 ^= word;
	sip_round(s);
	s->v0 ^= word;
}

/* last: the bytes after the last whole word, with the message's length on top. */
static __always_inline __u64 sip_end(struct lb_sip *s, __u64 last)
{
	sip_word(s, last);
	s->v2 ^= 0xff;
	sip_round(s);
	sip_round(s);
	sip_round(s);
	return s->v0 ^ s->v1 ^ s->v2 ^ s->v3;
}

/* Chooses the slot and the outer source port; the same on every node
 * (LB_VERSION_HASH). ports is 0 for a service with client affinity.
 */
static __always_inline __u64 flow_hash(const __u64 *client, __u64 ports)
{
	__u64 h = 0x9ae16a3b2f90404f;

	h = (h ^ client[0]) * 0x9e3779b97f4a7c15;
	h ^= h >> 32;
	h = (h ^ client[1]) * 0x9e3779b97f4a7c15;
	h ^= h >> 32;
	h = (h ^ ports) * 0x9e3779b97f4a7c15;
	h ^= h >> 32;
	h *= 0xd6e8feb86659fd93;
	return h ^ h >> 32;
}

static __always_inline __u64 packet_ports(const struct lb_pkt *pkt)
{
	return bpf_ntohs(pkt->sport) | (__u64)bpf_ntohs(pkt->dport) << 16 | (__u64)pkt->proto << 32;
}

/* Where the records of a client's address and port are. */
static __always_inline __u64 bucket_hash(const __u64 *client, __be16 port)
{
	struct lb_sip s;

	sip_init(&s, flow_key0, flow_key1);
	sip_word(&s, client[0]);
	sip_word(&s, client[1]);
	return sip_end(&s, port | 18ULL << 56);
}

/* Over version, position, table hash and tags, then ports, addresses,
 * protocol and family of the inner packet, and whether it is an error about
 * such a packet.
 */
static __always_inline __be64 option_mac(const struct lb_pkt *pkt, __u64 key0, __u64 key1)
{
	__u64 last = pkt->proto | (__u64)pkt->family << 8 | (__u64)pkt->related << 16;
	struct lb_sip s;

	sip_init(&s, key0, key1);
	sip_word(&s, LB_VERSION_WIRE | (__u64)pkt->position << 8 | (__u64)pkt->table_hash << 16 |
			     (__u64)pkt->tags[0] << 32);
	sip_word(&s, pkt->tags[1] | (__u64)pkt->tags[2] << 32);
	sip_word(&s, pkt->tags[3] | (__u64)pkt->sport << 32 | (__u64)pkt->dport << 48);
	if (pkt->family == 4) {
		sip_word(&s, addr_v4(pkt->src) | (__u64)addr_v4(pkt->dst) << 32);
		return bpf_cpu_to_be64(sip_end(&s, last | 35ULL << 56));
	}
	sip_word(&s, pkt->src[0]);
	sip_word(&s, pkt->src[1]);
	sip_word(&s, pkt->dst[0]);
	sip_word(&s, pkt->dst[1]);
	return bpf_cpu_to_be64(sip_end(&s, last | 59ULL << 56));
}

static __always_inline int option_authentic(const struct lb_pkt *pkt)
{
	if (option_mac(pkt, wire_key0, wire_key1) == pkt->mac)
		return 1;
	return has_other_key && option_mac(pkt, other_key0, other_key1) == pkt->mac;
}

static __always_inline __u32 tick_now(void)
{
	if (test_clock)
		return test_tick;
	return bpf_ktime_get_coarse_ns() >> LB_TICK_SHIFT;
}

#endif
