/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Replies of this node's backends: they leave with the VIP as their source. */
#ifndef FAIRLEAD_REPLY_H
#define FAIRLEAD_REPLY_H

#include "forward_tc.h"

#define LB_TCP_OPTIONS_MAX 20
#define LB_TCP_OPTION_END 0
#define LB_TCP_OPTION_NOP 1
#define LB_TCP_OPTION_MSS 2

static __always_inline __u32 *local_backend_find(const struct lb_pkt *pkt)
{
	struct lb_backend_key key __attribute__((aligned(8))) = {
		.port = pkt->sport,
	};

	__builtin_memcpy(key.addr, pkt->src, sizeof(key.addr));
	return bpf_map_lookup_elem(&local_backends, &key);
}

/* The record of the flow that the reply belongs to. key names the client as
 * the Pod sees it, and on return as it is.
 */
static __always_inline struct lb_flow *reply_flow(struct lb_flow_key *key)
{
	struct lb_flow *flow;

	flow_key_hash(key);
	flow = flow_find(key, LB_MATCH_REPLY);
	if (!flow || flow->kind != LB_FLOW_ALIAS)
		return flow;
	/* An alias may outlive the flow that it was made for: what it points to has
	 * to point back.
	 */
	key->pod_port = key->port;
	key->port = flow->pod_port;
	flow_key_hash(key);
	return flow_find(key, LB_MATCH_SUBSTITUTED);
}

/* Sets the MSS option (RFC 9293 section 3.7.1) to clamp if it is larger, so that
 * the client's segments fit through the tunnel between nodes.
 */
static __noinline long tc_clamp_mss(struct __sk_buff *skb, const struct lb_pkt *pkt, __u16 clamp)
{
	__u32 offset = pkt->l4 + sizeof(struct tcphdr), end = pkt->l4 + pkt->tcp_words * 4;

	for (int i = 0; i < LB_TCP_OPTIONS_MAX && offset + 4 <= end; i++) {
		__u8 option[4];
		__be16 mss, from, to;

		if (bpf_skb_load_bytes(skb, offset, option, sizeof(option)) || option[0] == LB_TCP_OPTION_END)
			return 0;
		if (option[0] == LB_TCP_OPTION_NOP) {
			offset++;
			continue;
		}
		if (option[0] != LB_TCP_OPTION_MSS) {
			if (option[1] < 2)
				return 0;
			offset += option[1];
			continue;
		}
		if (option[1] != 4 || ((__u16)option[2] << 8 | option[3]) <= clamp)
			return 0;
		mss = from = bpf_htons((__u16)option[2] << 8 | option[3]);
		to = bpf_htons(clamp);
		mss = to;
		if ((offset - pkt->l4) & 1) { /* astride two words of the sum */
			from = __builtin_bswap16(from);
			to = __builtin_bswap16(to);
		}
		return bpf_l4_csum_replace(skb, l4_checksum_offset(pkt), from, to, sizeof(to)) |
		       bpf_skb_store_bytes(skb, offset + 2, &mss, sizeof(mss), 0);
	}
	return 0;
}

/* The backend of a reply that the node's masquerading got hold of first, for
 * it had forgotten the connection: such a packet comes from the node's address
 * and the Pod's port.
 */
static __always_inline int masqueraded_backend(struct lb_flow_key *key, const struct lb_pkt *pkt)
{
	struct lb_flow *flow;

	if (!addr_is_self(pkt->src, pkt->family))
		return 0;
	key->pod_port = pkt->sport;
	flow_key_hash(key);
	flow = flow_find(key, LB_MATCH_MASQUERADED);
	if (!flow)
		return 0;
	key->backend = flow->backend;
	return 1;
}

static __always_inline enum lb_reason reply_lookup(struct lb_pkt *pkt, int forwarded, struct lb_flow **flow,
						   __be16 *client_port, struct lb_service **service)
{
	struct lb_scratch *room = scratch_get();
	struct lb_flow_key *key;
	__u32 *backend, id;

	if (pkt->fragment == LB_FRAGMENT_LATER && !pkt->malformed && !pkt->bad_headers)
		fragment_follow(pkt);
	if (!packet_has_ports(pkt) || !room)
		return LB_R_NOT_REPLY;
	key = &room->key;
	__builtin_memset(key, 0, sizeof(*key));
	key->port = pkt->dport;
	key->proto = pkt->proto;
	key->now = tick_now();
	key->client[0] = pkt->dst[0];
	key->client[1] = pkt->dst[1];
	backend = local_backend_find(pkt);
	if (backend)
		key->backend = *backend;
	else if (!forwarded || !masqueraded_backend(key, pkt))
		return LB_R_NOT_REPLY;
	*flow = reply_flow(key);
	if (!*flow)
		return LB_R_NO_FLOW;
	id = (*flow)->service;
	*service = bpf_map_lookup_elem(&service_records, &id);
	if (!*service || (*service)->tag != (*flow)->service_tag)
		return LB_R_NO_FLOW;
	*client_port = key->port;
	if (pkt->fragment == LB_FRAGMENT_FIRST)
		fragment_record(pkt);
	if (pkt->related)
		return LB_R_TRANSLATED;
	flow_pod_packet(key, *flow, pkt, *service);
	if ((*flow)->pod_port != key->port)
		alias_follow(key, *flow);
	return LB_R_TRANSLATED;
}

static __always_inline enum lb_reason reply_translate(struct __sk_buff *skb, struct lb_pkt *pkt,
						      const struct lb_service *service, __be16 client_port)
{
	struct lb_related to = {
		.outside = pkt->family == 4 ? 12 : 8,
		.inside = pkt->family == 4 ? 16 : 24,
	};

	to.to[0] = ((__u64 *)service->vip)[0];
	to.to[1] = ((__u64 *)service->vip)[1];
	to.ports[0] = client_port;
	to.ports[1] = service->port;
	if (pkt->related)
		return tc_set_related(skb, pkt, &to) ? LB_R_ERROR : LB_R_TRANSLATED;
	if (tc_set_addr(skb, pkt, pkt->src, to.to, 0) || tc_set_port(skb, pkt, pkt->sport, service->port, 0) ||
	    tc_set_port(skb, pkt, pkt->dport, client_port, 1))
		return LB_R_ERROR;
	if (pkt->proto == IPPROTO_TCP && pkt->tcp_flags & LB_TCP_SYN &&
	    tc_clamp_mss(skb, pkt, pkt->family == 4 ? mss_clamp_v4 : mss_clamp_v6))
		return LB_R_ERROR;
	return LB_R_TRANSLATED;
}

#endif
