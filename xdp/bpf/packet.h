/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A packet and what is known of it; parsing. */
#ifndef FAIRLEAD_PACKET_H
#define FAIRLEAD_PACKET_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "config.h"

#define LB_IP_FRAGMENT_BITS 0x3fff /* MF and the offset */
#define LB_NO_SERVICE 0xffffffff

enum lb_tcp_flag {
	LB_TCP_FIN = 1,
	LB_TCP_SYN = 2,
	LB_TCP_RST = 4,
	LB_TCP_ACK = 16,
};

struct lb_geneve_header {
	__u8 ver_optlen;
	__u8 control;
	__be16 proto;
	__be32 vni;
	__be16 class;
	__u8 type;
	__u8 len;
	struct lb_option option;
} __attribute__((packed, aligned(4)));
_Static_assert(sizeof(struct lb_geneve_header) == LB_GENEVE_LEN, "fixed length");

/* What one program run knows of its packet. Addresses are 16 bytes, IPv4
 * mapped, as two words in memory order. For a tunnelled packet they are the
 * inner ones.
 */
struct lb_pkt {
	__u64 src[2];
	__u64 dst[2];
	__be16 sport, dport;
	__u32 seq, ack; /* host order */
	__u32 len;	/* of the IP packet */
	__u16 l3, l4;	/* offsets in the frame */
	__u8 proto;
	__u8 family; /* 4 or 6 */
	__u8 tos;
	__u8 ttl;
	__u8 tcp_flags;
	__u8 tcp_words; /* header length, 4 bytes each */
	__u8 icmp_type;
	/* marks of the parser */
	__u8 malformed, fragment;
	/* of a tunnelled packet */
	__u8 tunnelled;
	__u8 outer_family;
	/* the decision */
	__u8 position;
	__u16 node;
	__be16 table_hash;
	__be16 pod_port; /* the client's port for the Pod */
	__u32 service;
	__u32 backend;
	__be32 tags[4];
	__be64 mac; /* as received */
	__u64 hash; /* flow hash */
};

static __always_inline void addr_set_v4(__u64 *addr, __be32 v4)
{
	addr[0] = 0;
	addr[1] = (__u64)v4 << 32 | 0xffff0000;
}

static __always_inline __be32 addr_v4(const __u64 *addr)
{
	return addr[1] >> 32;
}

static __always_inline int addr_is_mapped(const __u64 *addr)
{
	return addr[0] == 0 && (__u32)addr[1] == 0xffff0000;
}

static __always_inline int packet_is_syn(const struct lb_pkt *pkt)
{
	return pkt->proto == IPPROTO_TCP && (pkt->tcp_flags & (LB_TCP_SYN | LB_TCP_ACK)) == LB_TCP_SYN;
}

/* May it be the first packet of a connection? */
static __always_inline int packet_may_begin(const struct lb_pkt *pkt)
{
	return pkt->proto == IPPROTO_UDP || packet_is_syn(pkt);
}

static __always_inline void parse_l4(struct lb_pkt *pkt, void *data, void *data_end)
{
	__u32 payload = pkt->len - (pkt->l4 - pkt->l3);
	void *cursor = data + pkt->l4;

	if (pkt->proto == IPPROTO_TCP) {
		struct tcphdr *tcp = cursor;

		if (payload < sizeof(*tcp) || (void *)(tcp + 1) > data_end || tcp->doff < 5 ||
		    payload < tcp->doff * 4) {
			pkt->malformed = 1;
			return;
		}
		pkt->sport = tcp->source;
		pkt->dport = tcp->dest;
		pkt->seq = bpf_ntohl(tcp->seq);
		pkt->ack = bpf_ntohl(tcp->ack_seq);
		pkt->tcp_flags = ((__u8 *)tcp)[13];
		pkt->tcp_words = tcp->doff;
	} else if (pkt->proto == IPPROTO_UDP) {
		struct udphdr *udp = cursor;

		if (payload < sizeof(*udp) || (void *)(udp + 1) > data_end ||
		    bpf_ntohs(udp->len) < sizeof(*udp) || bpf_ntohs(udp->len) > payload) {
			pkt->malformed = 1;
			return;
		}
		pkt->sport = udp->source;
		pkt->dport = udp->dest;
	} else if (pkt->proto == IPPROTO_ICMP || pkt->proto == IPPROTO_ICMPV6) {
		__u8 *icmp = cursor;

		if (payload < 8 || (void *)(icmp + 8) > data_end)
			pkt->malformed = 1;
		else
			pkt->icmp_type = *icmp;
	}
}

static __always_inline enum lb_reason parse_ipv4(struct lb_pkt *pkt, void *data, void *data_end, __u32 frame_len)
{
	struct iphdr *ip = data + pkt->l3;

	if ((void *)(ip + 1) > data_end || ip->version != 4 || ip->ihl < 5)
		return LB_R_NOT_IP;
	pkt->family = 4;
	addr_set_v4(pkt->src, ip->saddr);
	addr_set_v4(pkt->dst, ip->daddr);
	pkt->proto = ip->protocol;
	pkt->tos = ip->tos;
	pkt->ttl = ip->ttl;
	pkt->len = bpf_ntohs(ip->tot_len);
	pkt->l4 = pkt->l3 + ip->ihl * 4;
	pkt->fragment = !!(ip->frag_off & bpf_htons(LB_IP_FRAGMENT_BITS));
	if (pkt->len < ip->ihl * 4 || pkt->l3 + pkt->len > frame_len)
		pkt->malformed = 1;
	return LB_R_NONE;
}

static __always_inline enum lb_reason parse_ipv6(struct lb_pkt *pkt, void *data, void *data_end, __u32 frame_len)
{
	struct ipv6hdr *ip6 = data + pkt->l3;

	if ((void *)(ip6 + 1) > data_end || ip6->version != 6)
		return LB_R_NOT_IP;
	pkt->family = 6;
	__builtin_memcpy(pkt->src, &ip6->saddr, 16);
	__builtin_memcpy(pkt->dst, &ip6->daddr, 16);
	/* On the wire they are nobody's, and to us they would be an IPv4 flow's. */
	if (addr_is_mapped(pkt->src) || addr_is_mapped(pkt->dst))
		return LB_R_NOT_IP;
	pkt->proto = ip6->nexthdr;
	pkt->tos = bpf_ntohs(*(__be16 *)ip6) >> 4;
	pkt->ttl = ip6->hop_limit;
	pkt->len = sizeof(*ip6) + bpf_ntohs(ip6->payload_len);
	pkt->l4 = pkt->l3 + sizeof(*ip6);
	pkt->fragment = pkt->proto == IPPROTO_FRAGMENT;
	if (pkt->l3 + pkt->len > frame_len)
		pkt->malformed = 1;
	return LB_R_NONE;
}

/* Parses from the IP header at pkt->l3. An IP packet that makes no sense is
 * only marked: whether that concerns us depends on its destination.
 */
static __always_inline enum lb_reason parse_ip(struct lb_pkt *pkt, __be16 eth_proto, void *data, void *data_end,
					       __u32 frame_len)
{
	enum lb_reason reason;

	if (eth_proto == bpf_htons(ETH_P_IP))
		reason = parse_ipv4(pkt, data, data_end, frame_len);
	else if (eth_proto == bpf_htons(ETH_P_IPV6))
		reason = parse_ipv6(pkt, data, data_end, frame_len);
	else
		reason = LB_R_NOT_IP;
	if (reason == LB_R_NONE && !pkt->malformed && !pkt->fragment)
		parse_l4(pkt, data, data_end);
	return reason;
}

static __always_inline int addr_is_self(const struct lb_pkt *pkt)
{
	if (pkt->family == 4)
		return pkt->dst[0] == self_v4_hi && pkt->dst[1] == self_v4_lo;
	return (self_v6_hi || self_v6_lo) && pkt->dst[0] == self_v6_hi && pkt->dst[1] == self_v6_lo;
}

/* Walks into a packet that another node sent us, as far as its inner L4
 * header. Nothing of it is believed before option_authentic.
 */
static __always_inline enum lb_reason parse_tunnel(struct lb_pkt *pkt, void *data, void *data_end, __u32 frame_len)
{
	__u32 end = pkt->l3 + pkt->len;
	struct lb_geneve_header *geneve = data + pkt->l4 + sizeof(struct udphdr);
	__be16 inner;

	if ((void *)(geneve + 1) > data_end || pkt->l4 + sizeof(struct udphdr) + sizeof(*geneve) > end ||
	    geneve->ver_optlen != LB_GENEVE_OPTION_WORDS + 1 || geneve->class != bpf_htons(LB_GENEVE_CLASS))
		return LB_R_FOREIGN_TUNNEL;
	inner = geneve->proto;
	if (geneve->type != LB_GENEVE_TYPE || geneve->len != LB_GENEVE_OPTION_WORDS ||
	    geneve->option.version != LB_VERSION_WIRE || geneve->option.position > LB_POSITION_REDIRECTED ||
	    (inner != bpf_htons(ETH_P_IP) && inner != bpf_htons(ETH_P_IPV6)) ||
	    /* We send no IP options outside; fixed offsets from here on. */
	    pkt->l4 - pkt->l3 != (pkt->family == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr)))
		return LB_R_BAD_OPTION;
	pkt->position = geneve->option.position;
	pkt->table_hash = geneve->option.table_hash;
	__builtin_memcpy(pkt->tags, geneve->option.tags, sizeof(pkt->tags));
	pkt->mac = geneve->option.mac;
	pkt->tunnelled = 1;
	pkt->outer_family = pkt->family;
	pkt->l3 = sizeof(struct ethhdr) + (pkt->family == 4 ? LB_ENCAP_V4 : LB_ENCAP_V6);
	if (parse_ip(pkt, inner, data, data_end, frame_len) != LB_R_NONE || pkt->malformed || pkt->fragment ||
	    (pkt->proto != IPPROTO_TCP && pkt->proto != IPPROTO_UDP))
		return LB_R_MALFORMED;
	return LB_R_NONE;
}

/* Is the frame for this machine? A switch floods what it does not know a port
 * for, and a mirror port has the frames of all.
 */
static __always_inline int frame_is_ours(void *data, void *data_end)
{
	struct ethhdr *eth = data;

	if (!own_mac || (void *)(eth + 1) > data_end)
		return 1;
	return (*(__u64 *)data & 0xffffffffffff) == own_mac;
}

/* frame_len counts what does not lie between data and data_end, too. */
static __always_inline enum lb_reason parse(struct lb_pkt *pkt, void *data, void *data_end, __u32 frame_len)
{
	struct ethhdr *eth = data;
	enum lb_reason reason;

	if ((void *)(eth + 1) > data_end)
		return LB_R_NOT_IP;
	pkt->l3 = sizeof(*eth);
	reason = parse_ip(pkt, eth->h_proto, data, data_end, frame_len);
	if (reason != LB_R_NONE)
		return reason;
	if (pkt->proto == IPPROTO_UDP && pkt->dport == geneve_port && !pkt->malformed && !pkt->fragment &&
	    addr_is_self(pkt))
		return parse_tunnel(pkt, data, data_end, frame_len);
	return LB_R_NONE;
}

#endif
