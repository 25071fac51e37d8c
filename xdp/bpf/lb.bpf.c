//go:build ignore
/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Fairlead in the kernel: road C. XDP decides as early as a packet can be
 * seen; TC does what needs an skb, or everything where there is no XDP. The
 * decision itself is in decide.h, the same for both.
 */
#include "answer.h"
#include "forward_xdp.h"
#include "reply.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Bytes that headers can take: Ethernet with tags, our encapsulation, IPv6 with
 * extension headers, ICMPv6, the packet that it quotes, IP and TCP.
 */
#define LB_HEADERS_MAX (14 + 8 + LB_ENCAP_V6 + 40 + LB_EXTENSIONS_BYTES + 8 + 60 + 20)

SEC("xdp")
int lb_xdp(struct xdp_md *ctx)
{
	struct lb_pkt pkt = {};
	enum lb_reason reason;

	reason = parse_xdp(ctx, &pkt);
	reason = decide(ctx, LB_HOOK_XDP, &pkt, reason);
	return xdp_forward(ctx, &pkt, reason);
}

/* In front of the userspace datapath: gives it what the datapath decides about.
 * Without a socket to take them, packets are dropped: nobody else may answer
 * for a VIP.
 */
SEC("xdp")
int lb_xdp_socket(struct xdp_md *ctx)
{
	__u32 queue = socket_base + ctx->rx_queue_index;
	struct lb_pkt pkt = {};
	enum lb_reason reason;

	reason = parse_xdp(ctx, &pkt);
	reason = decide_pass(ctx, &pkt, reason);
	if (reason_verdict(reason) == LB_PASS) {
		count(&pkt, reason);
		return XDP_PASS;
	}
	if (bpf_map_lookup_elem(&sockets, &queue))
		return bpf_redirect_map(&sockets, queue, XDP_DROP);
	return xdp_drop(&pkt, LB_R_NO_AGENT);
}

/* What the userspace datapath hands to the stack, on the far end of a veth: it
 * comes in by the uplink once more. Without a destination address it is for
 * another node, whose next hop userspace does not know.
 */
SEC("tcx/ingress")
int lb_tc_inject(struct __sk_buff *skb)
{
	__u16 mac[3];

	if (bpf_skb_load_bytes(skb, 0, mac, sizeof(mac)))
		return LB_TCX_DROP;
	if (!mac[0] && !mac[1] && !mac[2])
		return bpf_redirect_neigh(uplink_ifindex, NULL, 0, 0);
	return bpf_redirect(uplink_ifindex, BPF_F_INGRESS);
}

/* Decides for the userspace datapath about a packet whose home runs here: only
 * programs write flows. Test runs alone call it; the frame is the query.
 */
SEC("xdp")
int lb_owner(struct xdp_md *ctx)
{
	struct lb_owner_query *query = (void *)(long)ctx->data;

	if ((void *)(query + 1) > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	query->reason = owner(&query->pkt);
	return XDP_PASS;
}

/* Makes the headers readable in place. */
static __always_inline void tc_pull_headers(struct __sk_buff *skb)
{
	__u32 linear = skb->data_end - skb->data;
	__u32 want = skb->len < LB_HEADERS_MAX ? skb->len : LB_HEADERS_MAX;

	if (linear < want)
		bpf_skb_pull_data(skb, want);
}

static __always_inline int tc_forward(struct __sk_buff *skb, struct lb_pkt *pkt, enum lb_reason reason)
{
	switch (reason_verdict(reason)) {
	case LB_DROP:
		return tc_drop(pkt, reason);
	case LB_ENCAP:
		return tc_encap(skb, pkt, reason);
	case LB_STEER:
		return tc_steer(skb, pkt, reason);
	case LB_DELIVER:
		return tc_deliver(skb, pkt, reason);
	case LB_ANSWER:
		return tc_answer(skb, pkt, reason);
	default:
		count(pkt, reason);
		return LB_TCX_NEXT;
	}
}

static __always_inline enum lb_reason tc_decide(struct __sk_buff *skb, struct lb_pkt *pkt)
{
	enum lb_reason reason;

	tc_pull_headers(skb);
	if (!frame_is_ours((void *)(long)skb->data, (void *)(long)skb->data_end))
		reason = LB_R_OTHER_MAC;
	else
		reason = parse_skb(skb, pkt);
	return decide(skb, LB_HOOK_TC, pkt, reason);
}

/* Takes over what XDP left in front of the packet; NONE if that is nothing. */
static __always_inline enum lb_reason meta_take(struct __sk_buff *skb, struct lb_pkt *pkt)
{
	struct lb_meta *meta = (void *)(long)skb->data_meta;

	if ((void *)(meta + 1) > (void *)(long)skb->data || meta->magic != LB_META_MAGIC)
		return LB_R_NONE;
	pkt->service = meta->service;
	pkt->backend = meta->backend;
	pkt->node = meta->node;
	pkt->position = meta->position;
	pkt->pod_port = meta->detail;
	pkt->table_hash = meta->detail;
	__builtin_memcpy(pkt->tags, meta->tags, sizeof(pkt->tags));
	meta->magic = 0; /* a veth would carry it on to the next node */
	return meta->reason;
}

/* Parses again what XDP parsed. Of a tunnelled packet it finds tags and table
 * hash in the option, as XDP did; the position is the new one.
 */
static __always_inline enum lb_reason tc_reparse(struct __sk_buff *skb, struct lb_pkt *pkt, enum lb_reason reason)
{
	__u8 position = pkt->position;

	tc_pull_headers(skb);
	if (parse_skb(skb, pkt) != LB_R_NONE)
		return LB_R_ERROR;
	if (pkt->fragment == LB_FRAGMENT_LATER)
		fragment_follow(pkt);
	pkt->position = position;
	pkt->hash = flow_hash(pkt->src, packet_ports(pkt));
	return reason;
}

/* A piece of a packet that is being fragmented comes in again; see tc_fragment. */
static __always_inline void piece_take(struct __sk_buff *skb, struct lb_pkt *pkt)
{
	if ((skb->mark & 0xffffff00) != LB_MARK_PIECE)
		return;
	pkt->piece = skb->mark & 0xff;
	skb->mark = 0;
}

/* The whole datapath, where no XDP program stands in front. While one comes or
 * goes it may have begun with a packet, and taken the outer headers off: to
 * decide anew would send that round in circles.
 */
SEC("tcx/ingress")
int lb_tc_in(struct __sk_buff *skb)
{
	struct lb_pkt pkt = {};
	enum lb_reason reason = meta_take(skb, &pkt);

	piece_take(skb, &pkt);
	if (reason != LB_R_NONE)
		reason = tc_reparse(skb, &pkt, reason);
	else
		reason = tc_decide(skb, &pkt);
	return tc_forward(skb, &pkt, reason);
}

/* Executes what XDP decided; what XDP passed is not ours. */
SEC("tcx/ingress")
int lb_tc_after_xdp(struct __sk_buff *skb)
{
	struct lb_pkt pkt = {};
	enum lb_reason reason = meta_take(skb, &pkt);

	piece_take(skb, &pkt);
	if (reason != LB_R_NONE)
		reason = tc_reparse(skb, &pkt, reason);
	else if (metadata_missing || pkt.piece)
		reason = tc_decide(skb, &pkt);
	else
		return LB_TCX_NEXT;
	return tc_forward(skb, &pkt, reason);
}

/* Everything that leaves by a device of ours. What came in by it was counted there. */
SEC("tcx/egress")
int lb_tc_out(struct __sk_buff *skb)
{
	struct lb_service *service = NULL;
	struct lb_flow *flow = NULL;
	struct lb_pkt pkt = {};
	enum lb_reason reason;
	__be16 client_port = 0;

	if (skb->ingress_ifindex == skb->ifindex)
		return LB_TCX_NEXT;
	tc_pull_headers(skb);
	pkt.service = LB_NO_SERVICE;
	reason = parse_skb(skb, &pkt);
	if (reason == LB_R_NONE && !pkt.tunnelled)
		reason = reply_lookup(&pkt, skb->ingress_ifindex, &flow, &client_port, &service);
	else
		reason = LB_R_NOT_REPLY;
	if (reason == LB_R_TRANSLATED && service) {
		pkt.service = flow->service;
		reason = reply_translate(skb, &pkt, service, client_port);
	}
	count(&pkt, reason);
	return reason == LB_R_ERROR ? LB_TCX_DROP : LB_TCX_NEXT;
}

/* The types that Go shares stay in the debug data only if something has them. */
struct lb_shared_types {
	enum lb_version version;
	enum lb_limit limit;
	enum lb_timeout timeout;
	enum lb_geneve geneve;
	enum lb_position position;
	enum lb_verdict verdict;
	enum lb_reason reason;
	enum lb_service_flag service_flag;
	enum lb_endpoint_flag endpoint_flag;
	enum lb_flow_kind flow_kind;
	enum lb_flow_state flow_state;
	enum lb_flow_flag flow_flag;
	enum lb_meta_magic meta_magic;
	struct lb_meta meta;
	struct lb_option option;
	struct lb_owner_query owner_query;
} *shared_types;
