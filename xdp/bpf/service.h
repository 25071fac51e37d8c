/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Services: which one a packet is for, whether it may, and its slot. */
#ifndef FAIRLEAD_SERVICE_H
#define FAIRLEAD_SERVICE_H

#include "conntrack.h"
#include "flow.h"
#include "fragment.h"

/* The bits of lb_service.table. */
static __always_inline __u32 table_line(__u64 table)
{
	return table & 0xffffff;
}

static __always_inline __u32 table_size(__u64 table)
{
	return table >> 24 & (LB_SIZES_MAX - 1);
}

static __always_inline int table_in_transition(__u64 table)
{
	return table >> 29 & 1;
}

static __always_inline __u32 table_generation(__u64 table)
{
	return table >> 30 & 0x3ffff;
}

static __always_inline __be16 table_hash(__u64 table)
{
	return bpf_htons(table >> 48);
}

static __always_inline __u32 *service_find(const struct lb_pkt *pkt, __be16 port, __u8 proto)
{
	struct lb_service_key key __attribute__((aligned(8))) = {
		.port = port,
		.proto = proto,
	};

	__builtin_memcpy(key.vip, pkt->dst, sizeof(key.vip));
	return bpf_map_lookup_elem(&services, &key);
}

/* The MTU on the way to a node: the uplink's, or a lower one that was learned. */
static __always_inline __u32 node_mtu(const struct lb_node *node, __u32 now)
{
	__u32 mtu = node->mtu;

	if (mtu && mtu < uplink_mtu && (__s32)(node->mtu_until - now) >= 0)
		return mtu;
	return uplink_mtu;
}

/* A source address or port that nobody has, or the destination's own (land). */
static __always_inline int source_is_martian(const struct lb_pkt *pkt)
{
	__u8 first;

	if ((pkt->proto == IPPROTO_TCP || pkt->proto == IPPROTO_UDP) && !pkt->sport)
		return 1;
	if (pkt->src[0] == pkt->dst[0] && pkt->src[1] == pkt->dst[1])
		return 1;
	if (pkt->family == 4) {
		first = addr_v4(pkt->src);
		return first == 0 || first == 127 || first >= 224;
	}
	first = pkt->src[0];
	return first == 0xff || (!pkt->src[0] && bpf_be64_to_cpu(pkt->src[1]) <= 1);
}

/* Why a packet that matches no service port is not served: NOT_VIP unless the
 * address is ours.
 */
static __always_inline enum lb_reason vip_reason(struct lb_pkt *pkt)
{
	if (!service_find(pkt, 0, 0))
		return LB_R_NOT_VIP;
	if (pkt->malformed)
		return LB_R_MALFORMED;
	if (pkt->bad_headers)
		return LB_R_HEADERS;
	if (pkt->related)
		return LB_R_ICMP;
	if (pkt->fragment == LB_FRAGMENT_LATER) {
		int echo = pkt->proto == (pkt->family == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6);

		return pkt->followed && echo ? LB_R_ECHO : LB_R_FRAGMENT;
	}
	if (source_is_martian(pkt))
		return LB_R_MARTIAN;
	if (packet_is_neighbor(pkt))
		return LB_R_NEIGHBOR;
	if (pkt->proto == (pkt->family == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6)) {
		if (pkt->icmp_type != (pkt->family == 4 ? LB_ICMP_ECHO : LB_ICMPV6_ECHO))
			return LB_R_ICMP;
		if (pkt->fragment)
			fragment_record(pkt);
		return LB_R_ECHO;
	}
	if (pkt->proto != IPPROTO_TCP && pkt->proto != IPPROTO_UDP)
		return LB_R_PROTO;
	return LB_R_UNKNOWN_PORT;
}

static __always_inline enum lb_reason service_lookup(struct lb_pkt *pkt, struct lb_service **service)
{
	__u32 *id = NULL;

	if (packet_has_ports(pkt))
		id = service_find(pkt, pkt->dport, pkt->proto);
	if (!id)
		return pkt->tunnelled ? LB_R_UNKNOWN_SERVICE : vip_reason(pkt);
	pkt->service = *id;
	*service = bpf_map_lookup_elem(&service_records, &pkt->service);
	return *service ? LB_R_NONE : LB_R_ERROR;
}

static __always_inline int conntrack_knows(void *ctx, enum lb_hook hook, struct lb_pkt *pkt)
{
	return hook == LB_HOOK_XDP ? conntrack_knows_xdp(ctx, pkt) : conntrack_knows_skb(ctx, pkt);
}

/* What is kube-proxy's passes, and nothing about it is ours to judge: packets
 * for a service that is left to it, or of a connection that it has from the time
 * before it lost the service. The later fragments of a datagram find the way of
 * the first.
 */
static __always_inline enum lb_reason service_others(void *ctx, enum lb_hook hook, struct lb_pkt *pkt,
						     const struct lb_service *service)
{
	__u8 flags = service->flags;
	enum lb_reason reason;

	if (!(flags & (LB_SERVICE_LEFT | LB_SERVICE_ADOPTED)))
		return LB_R_NONE;
	if (pkt->tunnelled)
		return flags & LB_SERVICE_LEFT ? LB_R_UNKNOWN_SERVICE : LB_R_NONE;
	if (flags & LB_SERVICE_LEFT)
		reason = LB_R_LEFT;
	else if (conntrack_knows(ctx, hook, pkt))
		reason = LB_R_CONNTRACKED;
	else
		return LB_R_NONE;
	if (pkt->fragment == LB_FRAGMENT_FIRST)
		fragment_record(pkt);
	return reason;
}

static __always_inline enum lb_reason source_range(const struct lb_pkt *pkt, const struct lb_service *service)
{
	struct lb_range_key key __attribute__((aligned(8))) = {
		.prefixlen = 32 + 128,
		.service = pkt->service,
	};

	if (!(service->flags & LB_SERVICE_RANGES))
		return LB_R_NONE;
	__builtin_memcpy(key.addr, pkt->src, sizeof(key.addr));
	return bpf_map_lookup_elem(&source_ranges, &key) ? LB_R_NONE : LB_R_SOURCE_RANGE;
}

/* With affinity a client's flows share a slot. */
static __always_inline __u64 slot_hash(const struct lb_pkt *pkt, const struct lb_service *service)
{
	return service->affinity_ticks ? flow_hash(pkt->src, 0) : pkt->hash;
}

static __always_inline __u32 slot_of(__u64 hash, __u64 table)
{
	return (hash >> 32) * table_slots[table_size(table)] >> 32;
}

static __always_inline struct lb_line *line_at(__u64 table, __u32 line)
{
	__u32 index = table_line(table) + line;

	return bpf_map_lookup_elem(&lookup_tables, &index);
}

/* The first two half words, and the first word, are the generation. */
static __always_inline __u16 line_slot(struct lb_line *line, __u32 place)
{
	return ((volatile __u16 *)line)[opaque(place) & (LB_LINE_SIZE / 2 - 1)];
}

static __always_inline __u32 line_backend(struct lb_line *line, __u32 place)
{
	return ((volatile __u32 *)line)[opaque(place) & (LB_LINE_SIZE / 4 - 1)];
}

/* Is the line still the table's? To be asked after the line was read: a writer
 * changes the generation before anything else.
 */
static __always_inline int line_is_current(const struct lb_line *line, __u64 table)
{
	barrier();
	return *(volatile __u32 *)&line->generation == table_generation(table);
}

/* The backend at a place of the table's list; NULL when the region went to
 * another table meanwhile.
 */
static __always_inline struct lb_backend *listed_backend(__u64 table, __u32 list, __u32 place, __u32 *id)
{
	struct lb_line *line = line_at(table, list + place / LB_LINE_BACKENDS);

	if (!line)
		return NULL;
	*id = line_backend(line, 1 + place % LB_LINE_BACKENDS);
	if (!line_is_current(line, table))
		return NULL;
	return bpf_map_lookup_elem(&backends, id);
}

/* Fills in the wire ids of the slot's past. */
LB_GLOBAL int slot_past(struct lb_pkt *pkt, __u64 table, __u32 slot)
{
	__u32 list = table_transition_lines[table_size(table)];
	struct lb_line *line = line_at(table, slot / LB_LINE_TRANSITION_SLOTS);
	__u32 place = 2 + slot % LB_LINE_TRANSITION_SLOTS * 4; /* in half words */

	if (!line || !pkt)
		return 0;
	for (__u32 i = 1; i <= LB_PAST_MAX; i++) {
		__u32 index = line_slot(line, place + i);
		struct lb_backend *backend;
		__u32 id;

		if (index == LB_NO_BACKEND || !line_is_current(line, table))
			return 0;
		backend = listed_backend(table, list, index, &id);
		if (!backend)
			return 0;
		pkt->tags[i] = bpf_htonl(backend->tag);
	}
	return 0;
}

/* For a packet that no backend takes. One that another node sent here is not
 * answered: that node will know better in a moment.
 */
static __always_inline enum lb_reason refusal(const struct lb_pkt *pkt, const struct lb_service *service)
{
	return service->flags & LB_SERVICE_ELSEWHERE || pkt->tunnelled ? LB_R_NO_LOCAL_BACKENDS : LB_R_REFUSED;
}

/* Chooses the packet's home, and its past where the slot has one. */
static __always_inline enum lb_reason slot_select(struct lb_pkt *pkt, const struct lb_service *service)
{
	__u64 table = *(volatile __u64 *)&service->table;
	struct lb_backend *backend;
	struct lb_line *line;
	__u32 slot, place, index, list;

	if (!table_size(table) || (service->flags & LB_SERVICE_CLOSED && !pkt->related && packet_is_syn(pkt)))
		return refusal(pkt, service);
	slot = slot_of(slot_hash(pkt, service), table);
	if (table_in_transition(table)) {
		line = line_at(table, slot / LB_LINE_TRANSITION_SLOTS);
		place = 2 + slot % LB_LINE_TRANSITION_SLOTS * 4;
		list = table_transition_lines[table_size(table)];
		slot_past(pkt, table, slot);
	} else {
		line = line_at(table, slot / LB_LINE_SLOTS);
		place = 2 + slot % LB_LINE_SLOTS;
		list = table_lines[table_size(table)];
	}
	if (!line)
		return LB_R_STALE_TABLE;
	index = line_slot(line, place);
	if (!line_is_current(line, table))
		return LB_R_STALE_TABLE;
	backend = listed_backend(table, list, index, &pkt->backend);
	if (!backend)
		return LB_R_STALE_TABLE;
	pkt->table_hash = table_hash(table);
	pkt->tags[0] = bpf_htonl(backend->tag);
	pkt->node = backend->node;
	return LB_R_NONE;
}

#endif
