//go:build ignore
/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Wrappers that give the program under test a fresh packet of the next flow in
 * every repeat of a test run, which the kernel does not do, and floors: the
 * same parsing and lookups as the programs, and nothing else.
 */
#include "../../../xdp/bpf/compat.h"
#include "../../../xdp/bpf/encap.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define BENCH_FRAME_MAX 192

/* What differs between the packets of two flows. They lie in the order in which
 * they are used, so that reading them costs the caches little.
 */
struct bench_flow {
	__u8 addr[16]; /* the client's, IPv4 in the last 4 bytes */
	__be16 port;
	__u8 pad[6];
	__be64 mac;
};

struct bench_template {
	__u8 frame[BENCH_FRAME_MAX];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct bench_template);
} templates SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct bench_flow);
} bench_flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} xdp_tails SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} in_tails SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} out_tails SEC(".maps");

volatile const __u32 frame_len;
volatile const __u32 flow_count_mask; /* flows - 1 */
volatile const __u32 addr_offset;     /* of the client's address */
volatile const __u32 addr_len;	      /* 4 or 16 */
volatile const __u32 port_offset;
volatile const __u32 mac_offset; /* 0: there is none */

__u32 bench_next;

/* Writes frame_len bytes, a multiple of 8, of the next flow's packet. */
static __always_inline int bench_write(void *data, void *data_end)
{
	__u32 zero = 0, index = bench_next++ & flow_count_mask;
	struct bench_template *template = bpf_map_lookup_elem(&templates, &zero);
	struct bench_flow *flow = bpf_map_lookup_elem(&bench_flows, &index);

	if (!template || !flow)
		return -1;
	for (__u32 i = 0; i < BENCH_FRAME_MAX; i += 8) {
		if (i >= frame_len)
			break;
		if (data + i + 8 > data_end)
			return -1;
		*(__u64 *)(data + i) = *(__u64 *)(template->frame + i);
	}
	if (addr_offset > BENCH_FRAME_MAX || port_offset > BENCH_FRAME_MAX || mac_offset > BENCH_FRAME_MAX)
		return -1;
	if (data + addr_offset + 16 > data_end || data + port_offset + 2 > data_end ||
	    data + mac_offset + 8 > data_end)
		return -1;
	if (addr_len == 4)
		*(__u32 *)(data + addr_offset) = *(__u32 *)(flow->addr + 12);
	else
		__builtin_memcpy(data + addr_offset, flow->addr, 16);
	*(__u16 *)(data + port_offset) = flow->port;
	if (mac_offset)
		*(__u64 *)(data + mac_offset) = flow->mac;
	return 0;
}

SEC("xdp")
int bench_xdp(struct xdp_md *ctx)
{
	long meta = (void *)(long)ctx->data - (void *)(long)ctx->data_meta;
	long grown = (void *)(long)ctx->data_end - (void *)(long)ctx->data - frame_len;

	if (meta)
		bpf_xdp_adjust_meta(ctx, meta);
	if (grown)
		bpf_xdp_adjust_head(ctx, grown);
	if (bench_write((void *)(long)ctx->data, (void *)(long)ctx->data_end))
		return XDP_ABORTED;
	bpf_tail_call(ctx, &xdp_tails, 0);
	return XDP_ABORTED;
}

static __always_inline int bench_skb(struct __sk_buff *skb)
{
	return bpf_skb_pull_data(skb, frame_len) ||
	       bench_write((void *)(long)skb->data, (void *)(long)skb->data_end);
}

SEC("tcx/ingress")
int bench_in(struct __sk_buff *skb)
{
	if (!bench_skb(skb))
		bpf_tail_call(skb, &in_tails, 0);
	return LB_TCX_DROP;
}

SEC("tcx/egress")
int bench_out(struct __sk_buff *skb)
{
	if (!bench_skb(skb))
		bpf_tail_call(skb, &out_tails, 0);
	return LB_TCX_DROP;
}

SEC("xdp")
int empty_xdp(struct xdp_md *ctx)
{
	return XDP_PASS;
}

SEC("tcx/ingress")
int empty_in(struct __sk_buff *skb)
{
	return LB_TCX_NEXT;
}

SEC("tcx/egress")
int empty_out(struct __sk_buff *skb)
{
	return LB_TCX_NEXT;
}

/* Parsing and the services' lookup; for what is not a VIP, too. */
static __always_inline int floor_lookup(struct lb_frame frame, struct lb_pkt *pkt, struct lb_service **service)
{
	if (parse(&frame, pkt, 0) != LB_R_NONE || (pkt->tunnelled && parse_inner(&frame, pkt) != LB_R_NONE))
		return -1;
	return service_lookup(pkt, service) == LB_R_NONE ? 0 : -1;
}

SEC("xdp")
int floor_pass(struct xdp_md *ctx)
{
	struct lb_service *service = NULL;
	struct lb_pkt pkt = {};

	return floor_lookup(frame_xdp(ctx), &pkt, &service) ? XDP_PASS : XDP_DROP;
}

/* Up to the home's node. */
SEC("xdp")
int floor_remote(struct xdp_md *ctx)
{
	struct lb_service *service = NULL;
	struct lb_node *node;
	struct lb_pkt pkt = {};

	if (floor_lookup(frame_xdp(ctx), &pkt, &service) || !service)
		return XDP_PASS;
	pkt.hash = flow_hash(pkt.src, packet_ports(&pkt));
	if (slot_select(&pkt, service) != LB_R_NONE)
		return XDP_DROP;
	node = node_find(&pkt, 0);
	return node && node->confirmed ? XDP_TX : XDP_DROP;
}

/* Up to the flow's record, the first that its bucket is likely to have it in,
 * and its backend.
 */
static __always_inline int floor_record(struct lb_pkt *pkt, const __u64 *client, __be16 port)
{
	__u64 hash = bucket_hash(client, port);
	struct lb_flow_bucket *bucket = bucket_at(hash);
	struct lb_backend *backend;
	struct lb_flow *flow;
	__u32 id;

	if (!bucket)
		return -1;
	flow = bucket_way(bucket, bucket_first(hash));
	if (flow->port != port || *(__u64 *)flow->client != client[0])
		pkt->node = 1;
	id = flow->backend;
	backend = bpf_map_lookup_elem(&backends, &id);
	return backend && backend->tag == flow->backend_tag;
}

SEC("xdp")
int floor_owner(struct xdp_md *ctx)
{
	struct lb_service *service = NULL;
	struct lb_pkt pkt = {};

	if (floor_lookup(frame_xdp(ctx), &pkt, &service))
		return XDP_PASS;
	return floor_record(&pkt, pkt.src, pkt.sport) ? XDP_DROP : XDP_PASS;
}

SEC("tcx/ingress")
int floor_dnat(struct __sk_buff *skb)
{
	struct lb_service *service = NULL;
	struct lb_pkt pkt = {};

	if (floor_lookup(frame_skb(skb), &pkt, &service))
		return LB_TCX_NEXT;
	return floor_record(&pkt, pkt.src, pkt.sport) ? LB_TCX_DROP : LB_TCX_NEXT;
}

SEC("tcx/egress")
int floor_reply(struct __sk_buff *skb)
{
	struct lb_backend_key key __attribute__((aligned(8))) = {};
	struct lb_frame frame = frame_skb(skb);
	struct lb_pkt pkt = {};

	if (parse(&frame, &pkt, 0) != LB_R_NONE)
		return LB_TCX_NEXT;
	key.port = pkt.sport;
	__builtin_memcpy(key.addr, pkt.src, sizeof(key.addr));
	if (!bpf_map_lookup_elem(&local_backends, &key))
		return LB_TCX_NEXT;
	return floor_record(&pkt, pkt.dst, pkt.dport) ? LB_TCX_DROP : LB_TCX_NEXT;
}
