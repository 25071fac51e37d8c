/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The outer headers (RFC 8926 over UDP), as bytes to be written. */
#ifndef FAIRLEAD_ENCAP_H
#define FAIRLEAD_ENCAP_H

#include "decide.h"

#define LB_OUTER_TTL 64

struct lb_outer_v4 {
	struct iphdr ip;
	struct udphdr udp;
	struct lb_geneve_header geneve;
} __attribute__((packed, aligned(4)));
_Static_assert(sizeof(struct lb_outer_v4) == LB_ENCAP_V4, "v4 overhead");

struct lb_outer_v6 {
	struct ipv6hdr ip;
	struct udphdr udp;
	struct lb_geneve_header geneve;
} __attribute__((packed, aligned(4)));
_Static_assert(sizeof(struct lb_outer_v6) == LB_ENCAP_V6, "v6 overhead");

static __always_inline __u16 fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

/* RFC 791 header checksum of a header without options, its field taken as 0. */
static __always_inline __u16 ipv4_checksum(const struct iphdr *ip)
{
	const __u16 *words = (const __u16 *)ip;
	__u32 sum = 0;

	for (int i = 0; i < 10; i++)
		sum += i == 5 ? 0 : words[i];
	return ~fold(sum);
}

/* A GSO packet may outgrow the length fields; segmentation sets them again. */
static __always_inline __be16 saturate(__u32 len)
{
	return bpf_htons(len > 0xffff ? 0xffff : len);
}

static __always_inline int node_is_v4(const struct lb_node *node)
{
	const __u32 *words = (const __u32 *)node->addr;

	return words[0] == 0 && words[1] == 0 && words[2] == bpf_htonl(0xffff);
}

/* The node to send to; NULL if it is not known, not of the family (0: any), or
 * of one that this node has no address of.
 */
static __always_inline struct lb_node *node_find(const struct lb_pkt *pkt, __u8 family)
{
	__u32 index = pkt->node;
	struct lb_node *node = bpf_map_lookup_elem(&nodes, &index);

	if (!node || (!((__u64 *)node->addr)[0] && !((__u64 *)node->addr)[1]))
		return NULL;
	if (family && (family == 4) != node_is_v4(node))
		return NULL;
	if (node_is_v4(node) ? !self_v4_lo : !self_v6_hi && !self_v6_lo)
		return NULL;
	return node;
}

static __always_inline void geneve_fill(struct lb_geneve_header *geneve, const struct lb_pkt *pkt)
{
	geneve->ver_optlen = LB_GENEVE_OPTION_WORDS + 1;
	geneve->control = 0x40; /* a critical option is present */
	geneve->proto = pkt->family == 4 ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6);
	geneve->vni = 0;
	geneve->class = bpf_htons(LB_GENEVE_CLASS);
	geneve->type = LB_GENEVE_TYPE;
	geneve->len = LB_GENEVE_OPTION_WORDS;
	geneve->option.version = LB_VERSION_WIRE;
	geneve->option.position = pkt->position;
	geneve->option.table_hash = pkt->table_hash;
	__builtin_memcpy(geneve->option.tags, pkt->tags, sizeof(pkt->tags));
	geneve->option.mac = option_mac(pkt, wire_key0, wire_key1);
}

static __always_inline void udp_fill(struct udphdr *udp, const struct lb_pkt *pkt)
{
	udp->source = bpf_htons(0xc000 | (pkt->hash & 0x3fff));
	udp->dest = geneve_port;
	udp->len = saturate(sizeof(*udp) + LB_GENEVE_LEN + pkt->len);
	udp->check = 0; /* RFC 6935 allows that for a tunnel over IPv6, too */
}

static __always_inline __u16 fold64(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	return fold(sum);
}

/* A checksum after what it covers changed by diff, a sum of new words and
 * complements of old ones (RFC 1624, equation 3). As with the kernel's helpers
 * the result is never 0xffff.
 */
static __always_inline __u16 csum_update(__u16 check, __u64 diff)
{
	return ~fold64((__u32)~(__u32)check + diff);
}

/* The unfolded sum of the pseudo header; addresses the other way round give the same. */
static __always_inline __u64 pseudo_sum(const struct lb_pkt *pkt, __u8 proto, __u32 l4_len)
{
	__u64 sum = bpf_htonl(l4_len) + (__u64)bpf_htonl(proto);

	if (pkt->family == 4)
		return sum + addr_v4(pkt->src) + addr_v4(pkt->dst);
	for (int i = 0; i < 2; i++)
		sum += (pkt->src[i] & 0xffffffff) + (pkt->src[i] >> 32) + (pkt->dst[i] & 0xffffffff) +
		       (pkt->dst[i] >> 32);
	return sum;
}

/* ipv4_checksum of a header that is known but for these fields: reading it back
 * so soon after it was written takes longer (8 ns).
 */
static __always_inline __u16 outer_v4_checksum(__u8 tos, __be16 tot_len, __be32 saddr, __be32 daddr)
{
	__u64 sum = (__u64)saddr + daddr + tot_len + bpf_htons(0x4500 | tos) + bpf_htons(0x4000) +
		    bpf_htons(LB_OUTER_TTL << 8 | IPPROTO_UDP);

	return ~fold64(sum);
}

static __always_inline void outer_v4_fill(struct lb_outer_v4 *outer, const struct lb_pkt *pkt,
					  const struct lb_node *node)
{
	outer->ip.version = 4;
	outer->ip.ihl = 5;
	outer->ip.tos = pkt->tos;
	outer->ip.tot_len = saturate(LB_ENCAP_V4 + pkt->len);
	outer->ip.id = 0;
	outer->ip.frag_off = bpf_htons(0x4000);
	outer->ip.ttl = LB_OUTER_TTL;
	outer->ip.protocol = IPPROTO_UDP;
	outer->ip.saddr = self_v4_lo >> 32;
	outer->ip.daddr = ((__u32 *)node->addr)[3];
	outer->ip.check = outer_v4_checksum(pkt->tos, outer->ip.tot_len, outer->ip.saddr, outer->ip.daddr);
	udp_fill(&outer->udp, pkt);
	geneve_fill(&outer->geneve, pkt);
}

static __always_inline void outer_v6_fill(struct lb_outer_v6 *outer, const struct lb_pkt *pkt,
					  const struct lb_node *node)
{
	__u64 self[2] = { self_v6_hi, self_v6_lo };

	*(__be32 *)&outer->ip = bpf_htonl(6U << 28 | (__u32)pkt->tos << 20);
	outer->ip.payload_len = saturate(LB_ENCAP_V6 - sizeof(outer->ip) + pkt->len);
	outer->ip.nexthdr = IPPROTO_UDP;
	outer->ip.hop_limit = LB_OUTER_TTL;
	__builtin_memcpy(&outer->ip.saddr, self, 16);
	__builtin_memcpy(&outer->ip.daddr, node->addr, 16);
	udp_fill(&outer->udp, pkt);
	geneve_fill(&outer->geneve, pkt);
}

static __always_inline __u32 node_overhead(const struct lb_node *node)
{
	return node_is_v4(node) ? LB_ENCAP_V4 : LB_ENCAP_V6;
}

/* Asks for the time only where something was learned. */
static __always_inline __u32 node_mtu_now(const struct lb_node *node)
{
	return node->mtu ? node_mtu(node, tick_now()) : uplink_mtu;
}

/* What may still stand in the way once the node is chosen; len is that of an
 * IP packet as it has to cross the tunnel.
 */
static __always_inline enum lb_reason encap_check(const struct lb_pkt *pkt, const struct lb_node *node, __u32 len)
{
	if (pkt->ttl <= 1)
		return LB_R_TTL;
	if (!node)
		return LB_R_NO_NODE;
	if (len + node_overhead(node) > node_mtu_now(node))
		return LB_R_PACKET_TOO_BIG;
	return LB_R_NONE;
}

/* The same for a packet that has its outer headers already; len is that of the inner one. */
static __always_inline enum lb_reason steer_check(const struct lb_node *node, __u32 len)
{
	if (!node)
		return LB_R_NO_NODE;
	if (len + node_overhead(node) > node_mtu_now(node))
		return LB_R_TOO_BIG;
	return LB_R_NONE;
}

/* One hop less for the inner packet (RFC 1141 for the checksum). */
static __always_inline int ttl_decrement(void *l3, void *data_end, __u8 family)
{
	if (family == 4) {
		struct iphdr *ip = l3;
		__u32 check;

		if ((void *)(ip + 1) > data_end)
			return 0;
		ip->ttl--;
		check = ip->check + bpf_htons(0x0100);
		ip->check = check + (check >= 0xffff);
	} else {
		struct ipv6hdr *ip6 = l3;

		if ((void *)(ip6 + 1) > data_end)
			return 0;
		ip6->hop_limit--;
	}
	return 1;
}

/* Rewrites the outer header of a packet that goes on to another node. */
static __always_inline int outer_readdress(struct lb_pkt *pkt, const struct lb_node *node, void *l3, void *data_end)
{
	struct lb_geneve_header *geneve;

	if (pkt->outer_family == 4) {
		struct lb_outer_v4 *outer = l3;

		if ((void *)(outer + 1) > data_end)
			return 0;
		outer->ip.ttl = LB_OUTER_TTL;
		outer->ip.saddr = self_v4_lo >> 32;
		outer->ip.daddr = ((__u32 *)node->addr)[3];
		outer->ip.check = ipv4_checksum(&outer->ip);
		geneve = &outer->geneve;
	} else {
		struct lb_outer_v6 *outer = l3;
		__u64 self[2] = { self_v6_hi, self_v6_lo };

		if ((void *)(outer + 1) > data_end)
			return 0;
		outer->ip.hop_limit = LB_OUTER_TTL;
		__builtin_memcpy(&outer->ip.saddr, self, 16);
		__builtin_memcpy(&outer->ip.daddr, node->addr, 16);
		geneve = &outer->geneve;
	}
	geneve->option.position = pkt->position;
	geneve->option.mac = option_mac(pkt, wire_key0, wire_key1);
	return 1;
}

#endif
