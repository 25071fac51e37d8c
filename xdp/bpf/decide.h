/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The decision: which reason, and with it which verdict, a packet gets. The
 * steps have the names and the order that they have in lb/forward.
 */
#ifndef FAIRLEAD_DECIDE_H
#define FAIRLEAD_DECIDE_H

#include "service.h"

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

/* The one place that counts, called once for each packet. */
static __always_inline void count(const struct lb_pkt *pkt, __u32 reason)
{
	struct lb_service_stats *stats;
	__u64 *packets;

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
	struct lb_endpoint *endpoint = endpoint_find(pkt->service, pkt->tags[0]);
	struct lb_backend *backend;
	enum lb_reason reason;
	int begins = packet_may_begin(pkt);

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
	reason = flow_new(pkt, service, key, begins ? 0 : LB_FLOW_UNVERIFIED);
	if (reason != LB_R_NONE)
		return reason;
	return begins ? LB_R_NEW : LB_R_JUDGE;
}

/* This node runs the home's Pod, or was asked by the node that does. Returns
 * an enum lb_reason.
 */
LB_GLOBAL int owner(struct lb_pkt *pkt)
{
	struct lb_service *service;
	struct lb_flow_key key = {};
	struct lb_flow *unfit = NULL;
	enum lb_reason reason;

	if (!pkt)
		return LB_R_ERROR;
	service = bpf_map_lookup_elem(&service_records, &pkt->service);
	if (!service)
		return LB_R_ERROR;
	key.port = pkt->sport;
	key.proto = pkt->proto;
	key.service = pkt->service;
	key.now = tick_now();
	key.client[0] = pkt->src[0];
	key.client[1] = pkt->src[1];
	key.service_tag = service->tag;
	flow_key_hash(&key);
	reason = mine(pkt, service, &key, &unfit);
	if (reason == LB_R_NONE)
		reason = affinity(pkt, service, &key);
	if (reason == LB_R_NONE)
		reason = past(pkt);
	if (reason == LB_R_NONE)
		reason = settle(pkt, service, &key, unfit);
	return reason;
}

/* A packet that came in by a device of ours. */
static __always_inline enum lb_reason decide(struct lb_pkt *pkt, void *data, void *data_end, __u32 frame_len)
{
	struct lb_service *service = NULL;
	enum lb_reason reason;

	pkt->service = LB_NO_SERVICE;
	if (!frame_is_ours(data, data_end))
		return LB_R_OTHER_MAC;
	reason = parse(pkt, data, data_end, frame_len);
	if (reason == LB_R_NONE && pkt->tunnelled && !option_authentic(pkt))
		reason = LB_R_BAD_MAC;
	if (reason == LB_R_NONE)
		reason = service_lookup(pkt, &service);
	if (reason != LB_R_NONE || !service)
		return reason;
	pkt->hash = flow_hash(pkt->src, packet_ports(pkt));
	if (pkt->tunnelled)
		return owner(pkt);
	reason = source_range(pkt, service);
	if (reason == LB_R_NONE)
		reason = slot_select(pkt, service);
	if (reason != LB_R_NONE)
		return reason;
	if (pkt->node)
		return LB_R_ENCAP_HOME;
	return owner(pkt);
}

#endif
