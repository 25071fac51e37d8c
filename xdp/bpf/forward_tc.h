/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What TC does with a decision, with the helpers that keep partial checksums
 * and 64 KB segments right.
 */
#ifndef FAIRLEAD_FORWARD_TC_H
#define FAIRLEAD_FORWARD_TC_H

#include "compat.h"
#include "encap.h"

#define LB_MACS 12 /* bytes of both MAC addresses */

static __always_inline int tc_drop(const struct lb_pkt *pkt, enum lb_reason reason)
{
	count(pkt, reason);
	return LB_TCX_DROP;
}

static __always_inline __u64 l4_checksum_flags(const struct lb_pkt *pkt)
{
	/* A UDP checksum of 0 says that there is none, and stays. */
	return pkt->proto == IPPROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0;
}

static __always_inline __u32 l4_checksum_offset(const struct lb_pkt *pkt)
{
	return pkt->l4 + (pkt->proto == IPPROTO_TCP ? 16 : 6);
}

/* Sets an address of the packet, with both checksums. */
static __always_inline long tc_set_addr(struct __sk_buff *skb, const struct lb_pkt *pkt, const __u64 *from,
					const __u64 *to, int destination)
{
	__u64 flags = l4_checksum_flags(pkt) | BPF_F_PSEUDO_HDR;
	__u32 check = l4_checksum_offset(pkt);
	long err;

	if (pkt->family == 4) {
		__be32 old = addr_v4(from), new = addr_v4(to);

		err = bpf_l4_csum_replace(skb, check, old, new, flags | sizeof(new));
		err |= bpf_l3_csum_replace(skb, pkt->l3 + 10, old, new, sizeof(new));
		return err | bpf_skb_store_bytes(skb, pkt->l3 + (destination ? 16 : 12), &new, sizeof(new), 0);
	}
	if (csum_ipv6_flag)
		flags |= LB_F_IPV6;
	err = bpf_l4_csum_replace(skb, check, 0, bpf_csum_diff((__be32 *)from, 16, (__be32 *)to, 16, 0), flags);
	return err | bpf_skb_store_bytes(skb, pkt->l3 + (destination ? 24 : 8), to, 16, 0);
}

static __always_inline long tc_set_port(struct __sk_buff *skb, const struct lb_pkt *pkt, __be16 from, __be16 to,
					int destination)
{
	if (from == to)
		return 0;
	return bpf_l4_csum_replace(skb, l4_checksum_offset(pkt), from, to, l4_checksum_flags(pkt) | sizeof(to)) |
	       bpf_skb_store_bytes(skb, pkt->l4 + (destination ? 2 : 0), &to, sizeof(to), 0);
}

static __always_inline int tc_redirect_to_node(struct __sk_buff *skb, const struct lb_pkt *pkt,
					       const struct lb_node *node, enum lb_reason reason)
{
	count(pkt, reason);
	return bpf_redirect_neigh(node->ifindex ? node->ifindex : skb->ifindex, NULL, 0, 0);
}

static __noinline long tc_add_outer(struct __sk_buff *skb, const struct lb_pkt *pkt, const struct lb_node *node)
{
	__u64 flags = BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L4_UDP;
	__be16 proto;

	if (node_is_v4(node)) {
		struct lb_outer_v4 outer = {};

		if (bpf_skb_adjust_room(skb, sizeof(outer), BPF_ADJ_ROOM_MAC, flags | BPF_F_ADJ_ROOM_ENCAP_L3_IPV4))
			return -1;
		outer_v4_fill(&outer, pkt, node);
		proto = bpf_htons(ETH_P_IP);
		return bpf_skb_store_bytes(skb, LB_MACS, &proto, sizeof(proto), 0) |
		       bpf_skb_store_bytes(skb, sizeof(struct ethhdr), &outer, sizeof(outer), 0);
	} else {
		struct lb_outer_v6 outer = {};

		if (bpf_skb_adjust_room(skb, sizeof(outer), BPF_ADJ_ROOM_MAC, flags | BPF_F_ADJ_ROOM_ENCAP_L3_IPV6))
			return -1;
		outer_v6_fill(&outer, pkt, node);
		proto = bpf_htons(ETH_P_IPV6);
		return bpf_skb_store_bytes(skb, LB_MACS, &proto, sizeof(proto), 0) |
		       bpf_skb_store_bytes(skb, sizeof(struct ethhdr), &outer, sizeof(outer), 0);
	}
}

static __noinline int tc_encap(struct __sk_buff *skb, struct lb_pkt *pkt, enum lb_reason reason)
{
	struct lb_node *node = node_find(pkt, 0);
	enum lb_reason obstacle = encap_check(pkt, node, skb->gso_size > 0);
	void *data = (void *)(long)skb->data;
	void *data_end = (void *)(long)skb->data_end;

	if (obstacle != LB_R_NONE || !node)
		return tc_drop(pkt, obstacle);
	if (!ttl_decrement(data + sizeof(struct ethhdr), data_end, pkt->family) || tc_add_outer(skb, pkt, node))
		return tc_drop(pkt, LB_R_ERROR);
	return tc_redirect_to_node(skb, pkt, node, reason);
}

static __noinline int tc_steer(struct __sk_buff *skb, struct lb_pkt *pkt, enum lb_reason reason)
{
	struct lb_node *node = node_find(pkt, pkt->outer_family);
	void *data = (void *)(long)skb->data;
	void *data_end = (void *)(long)skb->data_end;

	if (!node)
		return tc_drop(pkt, LB_R_NO_NODE);
	if (!outer_readdress(pkt, node, data + sizeof(struct ethhdr), data_end))
		return tc_drop(pkt, LB_R_ERROR);
	return tc_redirect_to_node(skb, pkt, node, reason);
}

static __always_inline long tc_strip_outer(struct __sk_buff *skb, struct lb_pkt *pkt)
{
	int overhead = pkt->outer_family == 4 ? LB_ENCAP_V4 : LB_ENCAP_V6;
	__u64 flags = BPF_F_ADJ_ROOM_FIXED_GSO;
	__be16 proto;

	if (pkt->family == 4) {
		flags |= LB_ADJ_ROOM_DECAP_L3_IPV4;
		proto = bpf_htons(ETH_P_IP);
	} else {
		flags |= LB_ADJ_ROOM_DECAP_L3_IPV6;
		proto = bpf_htons(ETH_P_IPV6);
	}
	if (bpf_skb_adjust_room(skb, -overhead, BPF_ADJ_ROOM_MAC, flags))
		return -1;
	pkt->l3 -= overhead;
	pkt->l4 -= overhead;
	return bpf_skb_store_bytes(skb, LB_MACS, &proto, sizeof(proto), 0);
}

/* DNAT, and on to the stack: routing, filters and the CNI see the client's address. */
static __noinline int tc_deliver(struct __sk_buff *skb, struct lb_pkt *pkt, enum lb_reason reason)
{
	struct lb_backend *backend = bpf_map_lookup_elem(&backends, &pkt->backend);
	__u64 to[2];

	if (!backend)
		return tc_drop(pkt, LB_R_ERROR);
	to[0] = ((__u64 *)backend->addr)[0];
	to[1] = ((__u64 *)backend->addr)[1];
	if ((pkt->tunnelled && tc_strip_outer(skb, pkt)) || tc_set_addr(skb, pkt, pkt->dst, to, 1) ||
	    tc_set_port(skb, pkt, pkt->dport, backend->port, 1) ||
	    tc_set_port(skb, pkt, pkt->sport, pkt->pod_port, 0))
		return tc_drop(pkt, LB_R_ERROR);
	count(pkt, reason);
	return LB_TCX_NEXT;
}

#endif
