/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the kernel's connection tracking knows: while services are taken over
 * from kube-proxy, connections that it translates stay with it. Where a kernel
 * has no such functions (they are of Linux 5.18, and need nf_conntrack and its
 * debug information), it knows nothing.
 */
#ifndef FAIRLEAD_CONNTRACK_H
#define FAIRLEAD_CONNTRACK_H

#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_conntrack_tcp.h>
#include <linux/netfilter/nf_conntrack_tuple_common.h>
#include "packet.h"

/* As far as they are read; the loader finds the offsets. */
struct ip_ct_tcp {
	__u8 state; /* enum tcp_conntrack */
} __attribute__((preserve_access_index));

union nf_conntrack_proto {
	struct ip_ct_tcp tcp;
} __attribute__((preserve_access_index));

struct nf_conn {
	unsigned long status; /* enum ip_conntrack_status */
	union nf_conntrack_proto proto;
} __attribute__((preserve_access_index));

/* Without the zone that Linux 6.11 adds: the default one. */
struct bpf_ct_opts {
	__s32 netns_id;
	__s32 error;
	__u8 l4proto;
	__u8 dir; /* enum ip_conntrack_dir of the tuple that was found */
	__u8 reserved[2];
};
_Static_assert(sizeof(struct bpf_ct_opts) == 12, "the kernel goes by the size");

extern struct nf_conn *bpf_xdp_ct_lookup(struct xdp_md *ctx, struct bpf_sock_tuple *tuple, __u32 tuple__sz,
					 struct bpf_ct_opts *opts, __u32 opts__sz) __ksym __weak;
extern struct nf_conn *bpf_skb_ct_lookup(struct __sk_buff *ctx, struct bpf_sock_tuple *tuple, __u32 tuple__sz,
					 struct bpf_ct_opts *opts, __u32 opts__sz) __ksym __weak;
extern void bpf_ct_release(struct nf_conn *ct) __ksym __weak;

/* Returns the tuple's size. */
static __always_inline __u32 conntrack_tuple(struct bpf_sock_tuple *tuple, const struct lb_pkt *pkt)
{
	if (pkt->family == 4) {
		tuple->ipv4.saddr = addr_v4(pkt->src);
		tuple->ipv4.daddr = addr_v4(pkt->dst);
		tuple->ipv4.sport = pkt->sport;
		tuple->ipv4.dport = pkt->dport;
		return sizeof(tuple->ipv4);
	}
	__builtin_memcpy(tuple->ipv6.saddr, pkt->src, 16);
	__builtin_memcpy(tuple->ipv6.daddr, pkt->dst, 16);
	tuple->ipv6.sport = pkt->sport;
	tuple->ipv6.dport = pkt->dport;
	return sizeof(tuple->ipv6);
}

/* Does the connection go from the client to the VIP, and on to somebody else?
 * One that ended may be followed by another of the same ports, which is not
 * its kind's any more.
 */
static __always_inline int conntrack_translates(const struct nf_conn *ct, const struct bpf_ct_opts *opts)
{
	if (opts->dir != IP_CT_DIR_ORIGINAL || !(ct->status & IPS_DST_NAT))
		return 0;
	return opts->l4proto != IPPROTO_TCP ||
	       (ct->proto.tcp.state != TCP_CONNTRACK_TIME_WAIT && ct->proto.tcp.state != TCP_CONNTRACK_CLOSE);
}

LB_GLOBAL int conntrack_knows_xdp(struct xdp_md *ctx, struct lb_pkt *pkt)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_ct_opts opts = {
		.netns_id = BPF_F_CURRENT_NETNS,
	};
	struct nf_conn *ct;
	int translates;

	if (!pkt || !bpf_xdp_ct_lookup)
		return 0;
	opts.l4proto = pkt->proto;
	ct = bpf_xdp_ct_lookup(ctx, &tuple, conntrack_tuple(&tuple, pkt), &opts, sizeof(opts));
	if (!ct)
		return 0;
	translates = conntrack_translates(ct, &opts);
	bpf_ct_release(ct);
	return translates;
}

LB_GLOBAL int conntrack_knows_skb(struct __sk_buff *ctx, struct lb_pkt *pkt)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_ct_opts opts = {
		.netns_id = BPF_F_CURRENT_NETNS,
	};
	struct nf_conn *ct;
	int translates;

	if (!pkt || !bpf_skb_ct_lookup)
		return 0;
	opts.l4proto = pkt->proto;
	ct = bpf_skb_ct_lookup(ctx, &tuple, conntrack_tuple(&tuple, pkt), &opts, sizeof(opts));
	if (!ct)
		return 0;
	translates = conntrack_translates(ct, &opts);
	bpf_ct_release(ct);
	return translates;
}

#endif
