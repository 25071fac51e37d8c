/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What XDP does with a decision: drop, send on, or hand it to TC. */
#ifndef FAIRLEAD_FORWARD_XDP_H
#define FAIRLEAD_FORWARD_XDP_H

#include "checksum.h"

/* Hands the decision to TC in front of the packet. */
static __always_inline int xdp_hand_over(struct xdp_md *ctx, const struct lb_pkt *pkt, enum lb_reason reason)
{
	struct lb_meta *meta;
	void *data;

	if (bpf_xdp_adjust_meta(ctx, -(int)sizeof(*meta))) {
		metadata_missing = 1;
		return XDP_PASS;
	}
	data = (void *)(long)ctx->data;
	meta = (void *)(long)ctx->data_meta;
	if ((void *)(meta + 1) > data)
		return XDP_ABORTED;
	meta->magic = LB_META_MAGIC;
	meta->reason = reason;
	meta->position = pkt->position;
	meta->service = pkt->service;
	meta->backend = pkt->backend;
	meta->node = pkt->node;
	meta->detail = reason_verdict(reason) == LB_DELIVER ? pkt->pod_port : pkt->table_hash;
	__builtin_memcpy(meta->tags, pkt->tags, sizeof(meta->tags));
	return XDP_PASS;
}

static __always_inline int next_hop_is_fresh(const struct lb_node *node)
{
	return node->confirmed && tick_now() - node->confirmed <= LB_NEXT_HOP_TICKS;
}

/* Both MAC addresses as words, for they follow each other in both places. */
static __always_inline void eth_fill(struct ethhdr *eth, const struct lb_node *node)
{
	const __u32 *from = (const __u32 *)node->dmac;
	__u32 *to = (__u32 *)eth->h_dest;

	to[0] = from[0];
	to[1] = from[1];
	to[2] = from[2];
	eth->h_proto = node_is_v4(node) ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6);
}

static __always_inline int xdp_send(struct xdp_md *ctx, const struct lb_node *node)
{
	if (node->ifindex == ctx->ingress_ifindex)
		return XDP_TX;
	return bpf_redirect(node->ifindex, 0);
}

static __always_inline int xdp_drop(const struct lb_pkt *pkt, enum lb_reason reason)
{
	count(pkt, reason);
	return XDP_DROP;
}

static __always_inline int xdp_encap(struct xdp_md *ctx, struct lb_pkt *pkt, enum lb_reason reason)
{
	struct lb_node *node = node_find(pkt, 0);
	void *data = (void *)(long)ctx->data;
	void *data_end = (void *)(long)ctx->data_end;
	enum lb_reason obstacle = encap_check(pkt, node, pkt->len);
	int v4;

	/* TC can fragment, and knows what to do with tags. */
	if (obstacle == LB_R_PACKET_TOO_BIG || pkt->tags_len)
		return xdp_hand_over(ctx, pkt, reason);
	if (obstacle != LB_R_NONE)
		return xdp_drop(pkt, obstacle);
	if (!node || !next_hop_is_fresh(node))
		return xdp_hand_over(ctx, pkt, reason);
	if (complete_checksums && !checksum_complete(ctx, pkt))
		return xdp_hand_over(ctx, pkt, reason);
	if (!ttl_decrement(data + sizeof(struct ethhdr), data_end, pkt->family))
		return xdp_drop(pkt, LB_R_ERROR);
	v4 = node_is_v4(node);
	if (bpf_xdp_adjust_head(ctx, v4 ? -LB_ENCAP_V4 : -LB_ENCAP_V6))
		return xdp_drop(pkt, LB_R_ERROR);
	data = (void *)(long)ctx->data;
	data_end = (void *)(long)ctx->data_end;
	if (data + sizeof(struct ethhdr) + LB_ENCAP_V6 > data_end)
		return xdp_drop(pkt, LB_R_ERROR);
	eth_fill(data, node);
	if (v4)
		outer_v4_fill(data + sizeof(struct ethhdr), pkt, node);
	else
		outer_v6_fill(data + sizeof(struct ethhdr), pkt, node);
	count(pkt, reason);
	return xdp_send(ctx, node);
}

static __always_inline int xdp_steer(struct xdp_md *ctx, struct lb_pkt *pkt, enum lb_reason reason)
{
	struct lb_node *node = node_find(pkt, pkt->outer_family);
	void *data = (void *)(long)ctx->data;
	void *data_end = (void *)(long)ctx->data_end;
	enum lb_reason obstacle;

	if (pkt->tags_len)
		return xdp_hand_over(ctx, pkt, reason);
	obstacle = steer_check(node, pkt->len);
	if (obstacle != LB_R_NONE || !node)
		return xdp_drop(pkt, obstacle);
	if (!next_hop_is_fresh(node))
		return xdp_hand_over(ctx, pkt, reason);
	/* The node before may have left it to TC, and TC the checksum to the device. */
	if (complete_checksums && !checksum_complete(ctx, pkt))
		return xdp_hand_over(ctx, pkt, reason);
	if (data + sizeof(struct ethhdr) > data_end ||
	    !outer_readdress(pkt, node, data + sizeof(struct ethhdr), data_end))
		return xdp_drop(pkt, LB_R_ERROR);
	eth_fill(data, node);
	count(pkt, reason);
	return xdp_send(ctx, node);
}

/* Writes the type of service of the IP header at l3, if it is another (RFC 1624). */
static __always_inline int tos_set(void *l3, void *data_end, __u8 family, __u8 tos)
{
	struct iphdr *ip = l3;

	if ((void *)(ip + 1) > data_end)
		return 0;
	if (family == 4) {
		if (ip->tos != tos) {
			ip->check = csum_update(ip->check, (__u64)bpf_htons(tos) + (__u16)~bpf_htons(ip->tos));
			ip->tos = tos;
		}
		return 1;
	}
	*(__be16 *)l3 = bpf_htons(0x6000 | tos << 4) | (*(__be16 *)l3 & bpf_htons(0xf));
	return 1;
}

/* Takes the outer headers off, so that TC and the stack see the client's packet. */
static __always_inline int xdp_deliver(struct xdp_md *ctx, struct lb_pkt *pkt, enum lb_reason reason)
{
	void *data = (void *)(long)ctx->data;
	void *data_end = (void *)(long)ctx->data_end;
	__u32 overhead = pkt->outer_family == 4 ? LB_ENCAP_V4 : LB_ENCAP_V6;
	struct ethhdr *eth;

	if (!pkt->tunnelled || pkt->tags_len)
		return xdp_hand_over(ctx, pkt, reason);
	if (data + LB_ENCAP_V6 + sizeof(*eth) > data_end)
		return xdp_drop(pkt, LB_R_ERROR);
	eth = data + overhead;
	if (!tos_set(eth + 1, data_end, pkt->family, ecn_decap(pkt->outer_tos, pkt->tos)))
		return xdp_drop(pkt, LB_R_ERROR);
	__builtin_memcpy(eth, data, 2 * ETH_ALEN);
	eth->h_proto = pkt->family == 4 ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6);
	if (bpf_xdp_adjust_head(ctx, overhead))
		return xdp_drop(pkt, LB_R_ERROR);
	return xdp_hand_over(ctx, pkt, reason);
}

static __always_inline int xdp_forward(struct xdp_md *ctx, struct lb_pkt *pkt, enum lb_reason reason)
{
	enum lb_verdict verdict = reason_verdict(reason);

	if (verdict == LB_DROP)
		return xdp_drop(pkt, reason);
	if (verdict == LB_PASS) {
		if (!metadata_missing)
			count(pkt, reason);
		return XDP_PASS;
	}
	/* Whatever may be a GSO packet is TC's outside of native mode. */
	if (!xdp_native)
		return xdp_hand_over(ctx, pkt, reason);
	switch (verdict) {
	case LB_ENCAP:
		return xdp_encap(ctx, pkt, reason);
	case LB_STEER:
		return xdp_steer(ctx, pkt, reason);
	case LB_DELIVER:
		return xdp_deliver(ctx, pkt, reason);
	default:
		return xdp_hand_over(ctx, pkt, reason);
	}
}

#endif
