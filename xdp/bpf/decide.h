/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The decision: which reason, and with it which verdict, a packet gets. The
 * steps have the names and the order that they have in lb/forward.
 */
#ifndef FAIRLEAD_DECIDE_H
#define FAIRLEAD_DECIDE_H

#include "ecn.h"
#include "service.h"

/* The part of a packet that an ICMP error quotes: IP header with options or
 * extension headers, and a TCP header.
 */
#define LB_QUOTE_MAX 128

static __always_inline enum lb_verdict reason_verdict(enum lb_reason reason)
{
	if (reason < LB_R_NOT_IP)
		return LB_CONTINUE;
	if (reason < LB_R_MALFORMED)
		return LB_PASS;
	if (reason < LB_R_ENCAP_HOME)
		return LB_DROP;
	if (reason < LB_R_STEER_PAST)
		return LB_ENCAP;
	if (reason < LB_R_MINE)
		return LB_STEER;
	if (reason < LB_R_ECHO)
		return LB_DELIVER;
	if (reason < LB_R_TRANSLATED)
		return LB_ANSWER;
	return LB_REPLY;
}

/* The one place that counts, called once for each packet; of one that is
 * fragmented, for the first piece.
 */
static __always_inline void count(const struct lb_pkt *pkt, __u32 reason)
{
	struct lb_service_stats *stats;
	__u64 *packets;

	if (pkt->piece)
		return;
	packets = bpf_map_lookup_elem(&counters, &reason);
	if (packets)
		(*packets)++;
	if (pkt->service == LB_NO_SERVICE)
		return;
	stats = bpf_map_lookup_elem(&service_stats, &pkt->service);
	if (stats) {
		stats->packets++;
		stats->bytes += pkt->len;
	}
}

static __always_inline struct lb_endpoint *endpoint_find(__u32 service, __be32 tag)
{
	struct lb_endpoint_key key = {
		.service = service,
		.tag = bpf_ntohl(tag),
	};

	return bpf_map_lookup_elem(&endpoints, &key);
}

static __always_inline enum lb_reason go_to(struct lb_pkt *pkt, __u16 node, __u8 position, enum lb_reason encap,
					    enum lb_reason steer)
{
	pkt->node = node;
	pkt->position = position;
	return pkt->tunnelled ? steer : encap;
}

static __always_inline enum lb_reason deliver(struct lb_pkt *pkt, __u32 backend, __be16 pod_port,
					      enum lb_reason reason)
{
	pkt->backend = backend;
	pkt->pod_port = pod_port;
	return reason;
}

/* A new flow on a backend of this node. */
static __always_inline enum lb_reason flow_new(struct lb_pkt *pkt, const struct lb_service *service,
					       struct lb_flow_key *key, __u8 flags)
{
	struct lb_backend *backend = bpf_map_lookup_elem(&backends, &key->backend);
	__u64 table = *(volatile __u64 *)&service->table;
	struct lb_flow_init init = {
		.pod_port = key->port,
		.flags = flags,
		.slot = 0xffff,
	};
	enum lb_reason reason;

	if (!backend)
		return LB_R_ERROR;
	key->backend_tag = backend->tag;
	key->kind = LB_FLOW_OWN;
	if (table_size(table))
		init.slot = slot_of(slot_hash(pkt, service), table);
	if (key->crowded && bucket_conflicts(key, 0)) {
		reason = flow_substitute(key, pkt->hash, &init);
		if (reason != LB_R_NONE)
			return reason;
	}
	pkt->backend = key->backend;
	pkt->pod_port = init.pod_port;
	return flow_write(key, &init);
}

/* A record of the flow. A half-open one that the packet's ACK does not fit is
 * left in unfit.
 */
static __always_inline enum lb_reason mine(struct lb_pkt *pkt, const struct lb_service *service,
					   struct lb_flow_key *key, struct lb_flow **unfit)
{
	struct lb_flow *flow = flow_find(key, LB_MATCH_SERVICE);

	if (!flow)
		return LB_R_NONE;
	if (flow->kind == LB_FLOW_REDIRECT) {
		if (pkt->position >= LB_POSITION_REDIRECTED)
			return LB_R_NONE;
		return go_to(pkt, flow->node, LB_POSITION_REDIRECTED, LB_R_ENCAP_OWNER, LB_R_STEER_OWNER);
	}
	if (pkt->related)
		return deliver(pkt, flow->backend, flow->pod_port, LB_R_RELATED);
	if (packet_is_syn(pkt) && flow_is_closed(flow->flags))
		return LB_R_NONE;
	if (pkt->proto == IPPROTO_TCP && flow->state == LB_FLOW_HALF_OPEN && pkt->tcp_flags & LB_TCP_ACK &&
	    !flow_ack_fits(flow, pkt)) {
		*unfit = flow;
		return LB_R_NONE;
	}
	flow_client_packet(key, flow, pkt, service);
	if (flow->pod_port != key->port)
		alias_follow(key, flow);
	return deliver(pkt, flow->backend, flow->pod_port, LB_R_MINE);
}

static __always_inline enum lb_reason affinity(struct lb_pkt *pkt, const struct lb_service *service,
					       struct lb_flow_key *key)
{
	struct lb_endpoint *endpoint;
	struct lb_flow *flow;
	enum lb_reason reason;

	if (!service->affinity_ticks || !packet_may_begin(pkt))
		return LB_R_NONE;
	key->port = 0;
	key->proto = 0;
	flow_key_hash(key);
	flow = flow_find(key, LB_MATCH_AFFINITY);
	key->port = pkt->sport;
	key->proto = pkt->proto;
	flow_key_hash(key);
	if (!flow)
		return LB_R_NONE;
	key->backend = flow->backend;
	endpoint = endpoint_find(pkt->service, bpf_htonl(flow->backend_tag));
	if (!endpoint || endpoint->flags & LB_ENDPOINT_DRAINING)
		return LB_R_NONE;
	reason = flow_new(pkt, service, key, 0);
	return reason == LB_R_NONE ? LB_R_AFFINITY : reason;
}

/* On to the next earlier backend's node that has not been asked yet, or back home. */
static __always_inline enum lb_reason past(struct lb_pkt *pkt)
{
	struct lb_endpoint *endpoint;
	struct lb_backend *backend;

	if (pkt->position >= LB_POSITION_HOME)
		return LB_R_NONE;
	for (__u32 i = 1; i <= LB_PAST_MAX; i++) {
		if (i <= pkt->position)
			continue;
		if (!pkt->tags[i])
			break;
		endpoint = endpoint_find(pkt->service, pkt->tags[i]);
		if (!endpoint)
			continue;
		backend = bpf_map_lookup_elem(&backends, &endpoint->backend);
		if (backend && backend->node)
			return go_to(pkt, backend->node, i, LB_R_ENCAP_PAST, LB_R_STEER_PAST);
	}
	if (pkt->position == LB_POSITION_INGRESS)
		return LB_R_NONE;
	endpoint = endpoint_find(pkt->service, pkt->tags[0]);
	if (!endpoint)
		return LB_R_NONE;
	backend = bpf_map_lookup_elem(&backends, &endpoint->backend);
	if (backend && backend->node)
		return go_to(pkt, backend->node, LB_POSITION_HOME, LB_R_STEER_HOME, LB_R_STEER_HOME);
	return LB_R_NONE;
}

/* Nobody knows the flow, and this node is its home. */
static __always_inline enum lb_reason settle(struct lb_pkt *pkt, const struct lb_service *service,
					     struct lb_flow_key *key, struct lb_flow *unfit)
{
	struct lb_endpoint *endpoint;
	struct lb_backend *backend;
	enum lb_reason reason;
	int begins = packet_may_begin(pkt);

	if (pkt->related)
		return LB_R_ICMP_ORPHAN;
	endpoint = endpoint_find(pkt->service, pkt->tags[0]);
	if (!endpoint)
		return LB_R_NOT_LOCAL;
	key->backend = endpoint->backend;
	backend = bpf_map_lookup_elem(&backends, &key->backend);
	if (!backend || backend->node)
		return LB_R_NOT_LOCAL;
	if (unfit) {
		unfit->seen = key->now;
		return deliver(pkt, unfit->backend, unfit->pod_port, LB_R_JUDGE);
	}
	if (begins && service->flags & LB_SERVICE_CLOSED)
		return refusal(pkt, service);
	reason = flow_new(pkt, service, key, begins ? 0 : LB_FLOW_UNVERIFIED);
	if (reason != LB_R_NONE)
		return reason;
	return begins ? LB_R_NEW : LB_R_JUDGE;
}

/* Room for owner, whose callees need most of the stack. No program runs amid
 * another's on the same CPU: each one is called with bottom halves disabled.
 */
struct lb_scratch {
	struct lb_flow_key key;
	__u8 quote[LB_QUOTE_MAX];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct lb_scratch);
} scratch SEC(".maps");

static __always_inline struct lb_scratch *scratch_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&scratch, &zero);
}

/* This node runs the home's Pod, or was asked by the node that does. Returns
 * an enum lb_reason.
 */
LB_GLOBAL int owner(struct lb_pkt *pkt)
{
	struct lb_scratch *room = scratch_get();
	struct lb_service *service;
	struct lb_flow *unfit = NULL;
	struct lb_flow_key *key;
	enum lb_reason reason;

	if (!pkt || !room)
		return LB_R_ERROR;
	service = bpf_map_lookup_elem(&service_records, &pkt->service);
	if (!service)
		return LB_R_ERROR;
	key = &room->key;
	__builtin_memset(key, 0, sizeof(*key));
	key->port = pkt->sport;
	key->proto = pkt->proto;
	key->service = pkt->service;
	key->now = tick_now();
	key->client[0] = pkt->src[0];
	key->client[1] = pkt->src[1];
	key->service_tag = service->tag;
	flow_key_hash(key);
	reason = mine(pkt, service, key, &unfit);
	if (reason == LB_R_NONE)
		reason = affinity(pkt, service, key);
	if (reason == LB_R_NONE)
		reason = past(pkt);
	if (reason == LB_R_NONE)
		reason = settle(pkt, service, key, unfit);
	return reason;
}

/* Learns the path MTU to a node from an error about a packet that we sent it.
 * The error could be anybody's: it can make us cautious, within limits.
 */
LB_GLOBAL int path_mtu_learn(struct lb_pkt *pkt)
{
	struct lb_addr addr __attribute__((aligned(8)));
	__u32 *id, now = tick_now(), mtu;
	struct lb_node *node;

	if (!pkt || !pkt->mtu)
		return 0;
	mtu = pkt->mtu < LB_PATH_MTU_MIN ? LB_PATH_MTU_MIN : pkt->mtu;
	__builtin_memcpy(addr.addr, pkt->src, sizeof(addr.addr));
	id = bpf_map_lookup_elem(&node_ids, &addr);
	if (!id)
		return 0;
	node = bpf_map_lookup_elem(&nodes, id);
	if (!node || mtu >= node_mtu(node, now))
		return 0;
	node->mtu_until = now + LB_PATH_MTU_TICKS;
	node->mtu = mtu;
	return 0;
}

/* What a packet that another node sent has to show before it is looked at. */
static __always_inline enum lb_reason tunnel_check(struct lb_pkt *pkt)
{
	if (pkt->fragment == LB_FRAGMENT_LATER && !fragment_follow(pkt))
		return LB_R_FRAGMENT;
	if (!option_authentic(pkt))
		return LB_R_BAD_MAC;
	if (ecn_is_lost(pkt->outer_tos, pkt->tos))
		return LB_R_CONGESTED;
	return LB_R_NONE;
}

/* An error about a packet that we sent to another node. */
static __always_inline int is_tunnel_error(const struct lb_pkt *pkt)
{
	return pkt->related && pkt->proto == IPPROTO_UDP && pkt->sport == geneve_port &&
	       addr_is_self(pkt->dst, pkt->family);
}

/* Finds the ports of a later fragment to a VIP. */
static __always_inline void fragment_to_vip_follow(struct lb_pkt *pkt)
{
	if (pkt->fragment == LB_FRAGMENT_LATER && !pkt->malformed && !pkt->bad_headers && service_find(pkt, 0, 0))
		fragment_follow(pkt);
}

/* A packet that came in by a device of ours, as parsed; reason is the parser's. */
static __always_inline enum lb_reason decide(void *ctx, enum lb_hook hook, struct lb_pkt *pkt, enum lb_reason reason)
{
	struct lb_service *service = NULL;

	pkt->service = LB_NO_SERVICE;
	if (reason != LB_R_NONE)
		return reason;
	if (pkt->tunnelled) {
		reason = tunnel_check(pkt);
	} else if (is_tunnel_error(pkt)) {
		path_mtu_learn(pkt);
		return LB_R_TUNNEL_ERROR;
	} else {
		fragment_to_vip_follow(pkt);
	}
	if (reason == LB_R_NONE)
		reason = service_lookup(pkt, &service);
	if (reason != LB_R_NONE || !service)
		return reason;
	reason = service_others(ctx, hook, pkt, service);
	if (reason != LB_R_NONE)
		return reason;
	pkt->hash = flow_hash(pkt->src, packet_ports(pkt));
	if (!pkt->tunnelled) {
		if (!pkt->related && source_is_martian(pkt))
			return LB_R_MARTIAN;
		reason = source_range(pkt, service);
		if (reason != LB_R_NONE)
			return reason;
	}
	if (pkt->fragment == LB_FRAGMENT_FIRST)
		fragment_record(pkt);
	if (pkt->tunnelled)
		return owner(pkt);
	reason = slot_select(pkt, service);
	if (pkt->related && reason == LB_R_REFUSED)
		return LB_R_ICMP_ORPHAN;
	if (reason != LB_R_NONE)
		return reason;
	if (pkt->node)
		return LB_R_ENCAP_HOME;
	return owner(pkt);
}

/* The beginning of decide, as far as a packet passes: the rest is done in
 * userspace, which gets what has no reason yet.
 */
static __always_inline enum lb_reason decide_pass(struct xdp_md *ctx, struct lb_pkt *pkt, enum lb_reason reason)
{
	struct lb_service *service = NULL;

	pkt->service = LB_NO_SERVICE;
	if (reason_verdict(reason) != LB_CONTINUE || pkt->tunnelled || is_tunnel_error(pkt))
		return reason;
	fragment_to_vip_follow(pkt);
	reason = service_lookup(pkt, &service);
	if (reason == LB_R_NONE && service)
		reason = service_others(ctx, LB_HOOK_XDP, pkt, service);
	return reason;
}

#endif
