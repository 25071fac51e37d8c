/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The owner's flow table: buckets of eight records, found by the client's
 * address and port, so that both directions end at the same place.
 */
#ifndef FAIRLEAD_FLOW_H
#define FAIRLEAD_FLOW_H

#include "hash.h"
#include "maps.h"

#define LB_NO_WAY (-1)
#define LB_NO_FLOW_FOUND (-1)

/* Which record: everything that a search compares. */
struct lb_flow_key {
	__u64 client[2];
	__be16 port;
	__u8 proto;
	__u8 kind; /* of a record to be written */
	__u32 service;
	__u32 service_tag;
	__u32 backend;
	__u32 backend_tag;
	__u32 now;
	__u64 hash;    /* of client and port: flow_key_hash */
	__u32 crowded; /* set by a search that saw the client's address and port */
	__be16 pod_port; /* LB_MATCH_SUBSTITUTED; LB_MATCH_MASQUERADED: the backend's */
	__u16 pad;
};

/* To be called when client and port are set or changed. */
static __always_inline void flow_key_hash(struct lb_flow_key *key)
{
	key->hash = bucket_hash(key->client, key->port);
}

static __always_inline struct lb_flow_bucket *bucket_at(__u64 hash)
{
	__u32 index = hash & flow_mask;

	return bpf_map_lookup_elem(&flows, &index);
}

static __always_inline __u32 bucket_first(__u64 hash)
{
	return hash >> 32;
}

static __always_inline struct lb_flow *bucket_way(struct lb_flow_bucket *bucket, __u32 way)
{
	return &bucket->ways[way & (LB_FLOW_WAYS - 1)];
}

static __always_inline int backend_is_local(__u32 id, __u32 tag)
{
	struct lb_backend *backend = bpf_map_lookup_elem(&backends, &id);

	return backend && backend->tag == tag && backend->node == 0;
}

static __always_inline int backend_has_port(__u32 id, __be16 port)
{
	struct lb_backend *backend = bpf_map_lookup_elem(&backends, &id);

	return backend && backend->port == port;
}

static __always_inline int flow_is_closed(__u8 flags)
{
	return flags & LB_FLOW_POD_RST ||
	       (flags & (LB_FLOW_POD_FIN | LB_FLOW_CLIENT_FIN)) == (LB_FLOW_POD_FIN | LB_FLOW_CLIENT_FIN);
}

static __always_inline __u32 flow_timeout(const struct lb_flow *flow)
{
	__u8 flags = flow->flags;

	if (flow->proto == IPPROTO_UDP)
		return flow->state == LB_FLOW_ESTABLISHED ? LB_TIMEOUT_UDP_ESTABLISHED :
							    LB_TIMEOUT_UDP_HALF_OPEN;
	if (flow->state == LB_FLOW_HALF_OPEN)
		return LB_TIMEOUT_TCP_HALF_OPEN;
	if (flow_is_closed(flags) || flags & LB_FLOW_CLIENT_RST)
		return LB_TIMEOUT_TCP_CLOSED;
	if (flags & (LB_FLOW_POD_FIN | LB_FLOW_CLIENT_FIN))
		return LB_TIMEOUT_TCP_FIN;
	return LB_TIMEOUT_TCP_ESTABLISHED;
}

/* Signed, for another CPU may have touched the record after now was read. */
static __always_inline __s32 flow_idle(const struct lb_flow *flow, __u32 now)
{
	return now - flow->seen;
}

/* Is its time over? A free record's is. */
static __always_inline int flow_is_expired(const struct lb_flow *flow, __u32 now)
{
	switch (flow->kind) {
	case LB_FLOW_OWN:
	case LB_FLOW_ALIAS:
		return flow_idle(flow, now) > (__s32)flow_timeout(flow);
	case LB_FLOW_AFFINITY:
	case LB_FLOW_REDIRECT:
		return (__s32)(flow->until - now) < 0;
	}
	return 1;
}

static __always_inline int flow_has_backend(const struct lb_flow *flow)
{
	return flow->kind == LB_FLOW_REDIRECT || backend_is_local(flow->backend, flow->backend_tag);
}

static __always_inline int flow_is_alive(const struct lb_flow *flow, __u32 now)
{
	return !flow_is_expired(flow, now) && flow_has_backend(flow);
}

static __always_inline int flow_has_client(const struct lb_flow *flow, const struct lb_flow_key *key)
{
	return flow->port == key->port && flow->proto == key->proto &&
	       *(__u64 *)flow->client == key->client[0] && *(__u64 *)(flow->client + 8) == key->client[1];
}

static __always_inline int flow_has_service(const struct lb_flow *flow, const struct lb_flow_key *key)
{
	return flow->service == key->service && flow->service_tag == key->service_tag;
}

/* What a search is for, beside the client's address, port and protocol. */
enum lb_flow_match {
	LB_MATCH_SERVICE,  /* OWN or REDIRECT of the service */
	LB_MATCH_AFFINITY, /* of the service */
	LB_MATCH_REPLY,	   /* of the backend: OWN if its Pod sees this very port, or ALIAS */
	LB_MATCH_SUBSTITUTED, /* OWN of the backend whose Pod sees pod_port */
	LB_MATCH_MASQUERADED, /* like REPLY, of any backend with this port */
};

static __always_inline int flow_matches(const struct lb_flow *flow, const struct lb_flow_key *key,
					enum lb_flow_match match)
{
	__u8 kind = flow->kind;

	switch (match) {
	case LB_MATCH_SERVICE:
		return (kind == LB_FLOW_OWN || kind == LB_FLOW_REDIRECT) && flow_has_service(flow, key);
	case LB_MATCH_AFFINITY:
		return kind == LB_FLOW_AFFINITY && flow_has_service(flow, key);
	case LB_MATCH_REPLY:
		return flow->backend == key->backend &&
		       (kind == LB_FLOW_ALIAS || (kind == LB_FLOW_OWN && flow->pod_port == flow->port));
	case LB_MATCH_SUBSTITUTED:
		return kind == LB_FLOW_OWN && flow->backend == key->backend && flow->pod_port == key->pod_port;
	case LB_MATCH_MASQUERADED:
		return (kind == LB_FLOW_ALIAS || (kind == LB_FLOW_OWN && flow->pod_port == flow->port)) &&
		       backend_has_port(flow->backend, key->pod_port);
	}
	return 0;
}

/* The place of the first living record that matches, or LB_NO_FLOW_FOUND. A
 * record that is being rewritten is not there yet; one that changes under our
 * eyes is not there any more.
 */
LB_GLOBAL int flow_search(struct lb_flow_key *key, __u32 match)
{
	struct lb_flow_bucket *bucket;
	__u32 first;

	if (!key)
		return LB_NO_FLOW_FOUND;
	bucket = bucket_at(key->hash);
	if (!bucket)
		return LB_NO_FLOW_FOUND;
	first = bucket_first(key->hash);
	for (__u32 i = 0; i < LB_FLOW_WAYS; i++) {
		__u32 way = (first + i) & (LB_FLOW_WAYS - 1);
		struct lb_flow *flow = bucket_way(bucket, way);
		__u64 seq = *(volatile __u64 *)&flow->seq;

		if (!flow_has_client(flow, key))
			continue;
		key->crowded = 1;
		if (seq & 1 || !flow_matches(flow, key, match) || !flow_is_alive(flow, key->now))
			continue;
		barrier();
		if (*(volatile __u64 *)&flow->seq == seq)
			return (key->hash & flow_mask) * LB_FLOW_WAYS + way;
	}
	return LB_NO_FLOW_FOUND;
}

static __always_inline struct lb_flow *flow_find(struct lb_flow_key *key, enum lb_flow_match match)
{
	int place = flow_search(key, match);
	__u32 index = (__u32)place / LB_FLOW_WAYS;
	struct lb_flow_bucket *bucket;

	if (place == LB_NO_FLOW_FOUND)
		return NULL;
	bucket = bpf_map_lookup_elem(&flows, &index);
	return bucket ? bucket_way(bucket, place) : NULL;
}

/* Would a flow of key to its backend be taken for another flow when the Pod
 * replies? A substitute may not meet even a flow of the same service.
 */
LB_GLOBAL int bucket_conflicts(const struct lb_flow_key *key, int substitute)
{
	struct lb_flow_bucket *bucket;
	__u32 first;

	if (!key)
		return 0;
	bucket = bucket_at(key->hash);
	if (!bucket)
		return 0;
	first = bucket_first(key->hash);
	for (__u32 i = 0; i < LB_FLOW_WAYS; i++) {
		struct lb_flow *flow = bucket_way(bucket, first + i);

		if (flow->kind != LB_FLOW_OWN && flow->kind != LB_FLOW_ALIAS)
			continue;
		if (!flow_has_client(flow, key) || flow->backend != key->backend)
			continue;
		if (flow->kind == LB_FLOW_OWN && !substitute && flow_has_service(flow, key))
			continue;
		if (flow_is_alive(flow, key->now))
			return 1;
	}
	return 0;
}

/* A record that may be given up, and its sequence word from before it was
 * looked at: whoever takes it in the meantime changes that.
 */
struct lb_victim {
	__u64 seq;
	int way;
};

/* The record to give up for a new one: the same flow's earlier record, else one
 * whose time is over, else the half-open one that has been silent longest, else
 * one whose backend is gone, else the affinity that ends first. Established
 * flows are never given up, nor what another CPU is writing.
 */
static __always_inline struct lb_victim bucket_victim(struct lb_flow_bucket *bucket, const struct lb_flow_key *key)
{
	struct lb_victim expired = { .way = LB_NO_WAY }, half_open = expired, orphan = expired, affinity = expired;
	__u32 first = bucket_first(key->hash), soonest = 0;
	__s32 oldest = 0;

	for (__u32 i = 0; i < LB_FLOW_WAYS; i++) {
		__u32 way = (first + i) & (LB_FLOW_WAYS - 1);
		struct lb_flow *flow = bucket_way(bucket, way);
		struct lb_victim victim = { .seq = *(volatile __u64 *)&flow->seq, .way = way };

		barrier();
		if (victim.seq & 1)
			continue;
		if (flow->kind == key->kind && flow_has_client(flow, key) && flow_has_service(flow, key))
			return victim;
		if (flow_is_expired(flow, key->now)) {
			if (expired.way == LB_NO_WAY)
				expired = victim;
		} else if (flow->kind == LB_FLOW_AFFINITY) {
			__u32 left = flow->until - key->now;

			if (affinity.way == LB_NO_WAY || left < soonest) {
				affinity = victim;
				soonest = left;
			}
		} else if (flow->kind != LB_FLOW_REDIRECT && flow->state == LB_FLOW_HALF_OPEN) {
			__s32 idle = flow_idle(flow, key->now);

			if (half_open.way == LB_NO_WAY || idle > oldest) {
				half_open = victim;
				oldest = idle;
			}
		}
	}
	if (expired.way != LB_NO_WAY)
		return expired;
	if (half_open.way != LB_NO_WAY)
		return half_open;
	for (__u32 i = 0; i < LB_FLOW_WAYS; i++) {
		__u32 way = (first + i) & (LB_FLOW_WAYS - 1);
		struct lb_flow *flow = bucket_way(bucket, way);

		orphan.seq = *(volatile __u64 *)&flow->seq;
		orphan.way = way;
		barrier();
		if (!(orphan.seq & 1) && !flow_has_backend(flow))
			return orphan;
	}
	return affinity;
}

/* Fields of a new record that its key does not tell. */
struct lb_flow_init {
	__be16 pod_port;
	__u8 state;
	__u8 flags;
	__u16 slot;
	__u16 pad;
	__u32 until;
};

/* Returns an enum lb_reason: NONE if the record is written. */
LB_GLOBAL int flow_write(const struct lb_flow_key *key, const struct lb_flow_init *init)
{
	struct lb_flow_bucket *bucket;
	struct lb_victim victim;
	struct lb_flow *flow;
	__u64 seq;

	if (!key || !init)
		return LB_R_ERROR;
	bucket = bucket_at(key->hash);
	if (!bucket)
		return LB_R_ERROR;
	victim = bucket_victim(bucket, key);
	if (victim.way == LB_NO_WAY)
		return LB_R_FLOWS_FULL;
	flow = bucket_way(bucket, victim.way);
	seq = victim.seq;
	if (__sync_val_compare_and_swap(&flow->seq, seq, seq + 1) != seq)
		return LB_R_FLOWS_BUSY;
	*(__u64 *)flow->client = key->client[0];
	*(__u64 *)(flow->client + 8) = key->client[1];
	flow->port = key->port;
	flow->proto = key->proto;
	flow->kind = key->kind;
	flow->service = key->service;
	flow->service_tag = key->service_tag;
	flow->backend = key->backend;
	flow->backend_tag = key->backend_tag;
	flow->seen = key->now;
	flow->pod_port = init->pod_port;
	flow->state = init->state;
	flow->flags = init->flags;
	flow->isn = 0;
	flow->slot = init->slot;
	flow->node = 0;
	flow->until = init->until;
	__sync_lock_test_and_set(&flow->seq, seq + 2);
	return LB_R_NONE;
}

/* Finds a client port that no flow to this backend uses, and leaves an alias
 * there by which replies find the flow. Returns an enum lb_reason.
 */
LB_GLOBAL int flow_substitute(struct lb_flow_key *key, __u32 seed, struct lb_flow_init *init)
{
	int reason = LB_R_PORTS;
	__be16 port, candidate;

	if (!key || !init)
		return LB_R_ERROR;
	/* key and init are the flow's but for the moments of writing its alias:
	 * copies would not fit the stack.
	 */
	port = key->port;
	init->pod_port = port;
	for (__u32 i = 0; i < LB_PORT_TRIES; i++) {
		candidate = bpf_htons(1024 + (seed + i * 4099) % 64512);
		key->port = candidate;
		flow_key_hash(key);
		if (candidate == port || bucket_conflicts(key, 1))
			continue;
		key->kind = LB_FLOW_ALIAS;
		reason = flow_write(key, init);
		key->kind = LB_FLOW_OWN;
		init->pod_port = candidate;
		break;
	}
	key->port = port;
	flow_key_hash(key);
	return reason;
}

/* What happens to an OWN record happens to its alias, so that they die
 * together. Leaves key's backend changed.
 */
static __always_inline void alias_follow(struct lb_flow_key *key, const struct lb_flow *flow)
{
	__be16 port = key->port;
	struct lb_flow *alias;

	key->port = flow->pod_port;
	key->backend = flow->backend;
	flow_key_hash(key);
	alias = flow_find(key, LB_MATCH_REPLY);
	key->port = port;
	flow_key_hash(key);
	if (!alias || alias->kind != LB_FLOW_ALIAS)
		return;
	alias->seen = flow->seen;
	alias->state = flow->state;
	alias->flags = flow->flags;
}

/* Remembers the client for a service with affinity. Best effort: a full bucket
 * costs the client its affinity, not its connection. Leaves the flow's own
 * facts in key.
 */
static __always_inline void affinity_remember(struct lb_flow_key *key, const struct lb_flow *flow,
					      const struct lb_service *service)
{
	struct lb_flow_init init = {
		.state = LB_FLOW_ESTABLISHED,
		.slot = 0xffff,
		.until = key->now + service->affinity_ticks,
	};
	__be16 port = key->port;
	__u8 proto = key->proto;

	key->kind = LB_FLOW_AFFINITY;
	key->service = flow->service;
	key->service_tag = flow->service_tag;
	key->backend = flow->backend;
	key->backend_tag = flow->backend_tag;
	key->port = 0;
	key->proto = 0;
	flow_key_hash(key);
	flow_write(key, &init);
	key->port = port;
	key->proto = proto;
	flow_key_hash(key);
}

static __always_inline void flow_establish(struct lb_flow_key *key, struct lb_flow *flow,
					   const struct lb_service *service)
{
	if (flow->state == LB_FLOW_ESTABLISHED)
		return;
	flow->state = LB_FLOW_ESTABLISHED;
	if (service->affinity_ticks)
		affinity_remember(key, flow, service);
}

/* Does the client's ACK show that it has seen the Pod's SYN-ACK? */
static __always_inline int flow_ack_fits(const struct lb_flow *flow, const struct lb_pkt *pkt)
{
	return flow->flags & LB_FLOW_ISN && pkt->ack - flow->isn - 1 < LB_FLOW_ACK_WINDOW;
}

/* A packet of the client belongs to the record. */
static __always_inline void flow_client_packet(struct lb_flow_key *key, struct lb_flow *flow,
					       const struct lb_pkt *pkt, const struct lb_service *service)
{
	if (flow->seen != key->now)
		flow->seen = key->now;
	if (pkt->proto != IPPROTO_TCP)
		return;
	if (flow->state == LB_FLOW_HALF_OPEN && pkt->tcp_flags & LB_TCP_ACK && flow_ack_fits(flow, pkt))
		flow_establish(key, flow, service);
	if (pkt->tcp_flags & LB_TCP_FIN && !(flow->flags & LB_FLOW_CLIENT_FIN))
		flow->flags |= LB_FLOW_CLIENT_FIN;
	if (pkt->tcp_flags & LB_TCP_RST && !(flow->flags & LB_FLOW_CLIENT_RST))
		flow->flags |= LB_FLOW_CLIENT_RST;
}

/* The Pod replied: its word counts, for it knows the connection. */
static __always_inline void flow_pod_packet(struct lb_flow_key *key, struct lb_flow *flow,
					    const struct lb_pkt *pkt, const struct lb_service *service)
{
	__u8 flags = flow->flags;

	if (flow->seen != key->now)
		flow->seen = key->now;
	if (pkt->proto != IPPROTO_TCP) {
		flow_establish(key, flow, service);
		return;
	}
	if (pkt->tcp_flags & LB_TCP_RST) {
		flags |= LB_FLOW_POD_RST;
	} else {
		flags &= ~LB_FLOW_CLIENT_RST;
		if (pkt->tcp_flags & LB_TCP_SYN) {
			if (pkt->tcp_flags & LB_TCP_ACK) {
				flow->isn = pkt->seq;
				flags |= LB_FLOW_ISN;
			}
		} else {
			flags &= ~LB_FLOW_UNVERIFIED;
			flow_establish(key, flow, service);
		}
	}
	if (pkt->tcp_flags & LB_TCP_FIN)
		flags |= LB_FLOW_POD_FIN;
	if (flags != flow->flags)
		flow->flags = flags;
}

#endif
