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

/* Hides from the compiler what it knows of n, so that it keeps the bound that
 * the verifier wants to see.
 */
static __always_inline __u32 opaque(__u32 n)
{
	asm volatile("" : "+r"(n));
	return n;
}

/* Offsets of headers that are read or written in place stay below this. */
#define LB_OFFSET_MASK 0x1ff

#define LB_IP_MF 0x2000
#define LB_IP_OFFSET 0x1fff
#define LB_IP_DF 0x4000
#define LB_NO_SERVICE 0xffffffff
#define LB_TAG_LEN 4
#define LB_TAGS_MAX 2

/* A function that the verifier checks once and by itself, instead of anew for
 * each state of each caller: without that the programs are too large for it.
 * Its pointers may be NULL for all the verifier knows.
 */
#define LB_GLOBAL __attribute__((noinline))

/* Whose context a pointer is. */
enum lb_hook {
	LB_HOOK_XDP,
	LB_HOOK_TC,
};

/* A frame to be parsed. len counts what does not lie between data and data_end, too. */
struct lb_frame {
	void *ctx;
	enum lb_hook hook;
	void *data, *data_end;
	__u32 len;
};

static __always_inline struct lb_frame frame_xdp(struct xdp_md *ctx)
{
	return (struct lb_frame){
		.ctx = ctx,
		.hook = LB_HOOK_XDP,
		.data = (void *)(long)ctx->data,
		.data_end = (void *)(long)ctx->data_end,
		.len = ctx->data_end - ctx->data,
	};
}

static __always_inline struct lb_frame frame_skb(struct __sk_buff *skb)
{
	return (struct lb_frame){
		.ctx = skb,
		.hook = LB_HOOK_TC,
		.data = (void *)(long)skb->data,
		.data_end = (void *)(long)skb->data_end,
		.len = skb->len,
	};
}

enum lb_tcp_flag {
	LB_TCP_FIN = 1,
	LB_TCP_SYN = 2,
	LB_TCP_RST = 4,
	LB_TCP_ACK = 16,
};

/* Types of ICMP (RFC 792) and ICMPv6 (RFC 4443). */
enum lb_icmp {
	LB_ICMP_ECHO_REPLY = 0,
	LB_ICMP_UNREACHABLE = 3,
	LB_ICMP_ECHO = 8,
	LB_ICMP_TIME_EXCEEDED = 11,
	LB_ICMP_PARAMETER = 12,
	LB_ICMP_CODE_PORT = 3,
	LB_ICMP_CODE_TOO_BIG = 4,
	LB_ICMPV6_UNREACHABLE = 1,
	LB_ICMPV6_TOO_BIG = 2,
	LB_ICMPV6_PARAMETER = 4,
	LB_ICMPV6_ECHO = 128,
	LB_ICMPV6_ECHO_REPLY = 129,
	LB_ICMPV6_NEIGHBOR_SOLICITATION = 135, /* RFC 4861 */
	LB_ICMPV6_NEIGHBOR_ADVERTISEMENT = 136,
	LB_ICMPV6_CODE_PORT = 4,
};

enum lb_fragment {
	LB_FRAGMENT_NONE,
	LB_FRAGMENT_FIRST,
	LB_FRAGMENT_LATER,
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

struct lb_vlan_tag {
	__be16 tci;
	__be16 proto;
};

/* IPv6 extension headers begin alike; a fragment header is all of this. */
struct lb_extension {
	__u8 next;
	__u8 len; /* in 8 bytes, the first not counted */
	union {
		struct {
			__u8 type, segments_left;
		} routing;
		__be16 fragment_offset; /* 13 bits, two spare, more fragments */
	};
	__be32 fragment_id;
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

/* From a neighbor: no router lowered the hop limit (RFC 4861 section 7.1), and
 * it is no fragment (RFC 6980).
 */
static __always_inline int packet_is_neighbor(const struct lb_pkt *pkt)
{
	return pkt->family == 6 && pkt->proto == IPPROTO_ICMPV6 && pkt->ttl == 255 && !pkt->fragment &&
	       (pkt->icmp_type == LB_ICMPV6_NEIGHBOR_SOLICITATION ||
		pkt->icmp_type == LB_ICMPV6_NEIGHBOR_ADVERTISEMENT);
}

/* May it be the first packet of a connection? */
static __always_inline int packet_may_begin(const struct lb_pkt *pkt)
{
	return !pkt->related && (pkt->proto == IPPROTO_UDP || packet_is_syn(pkt));
}

/* Are the flow's ports known? Those of a later fragment are once its first was found. */
static __always_inline int packet_has_ports(const struct lb_pkt *pkt)
{
	return (pkt->proto == IPPROTO_TCP || pkt->proto == IPPROTO_UDP) && !pkt->malformed && !pkt->bad_headers &&
	       (pkt->fragment != LB_FRAGMENT_LATER || pkt->followed);
}

/* The packet that an ICMP error quotes. Where it is one of a flow, the flow's
 * addresses and ports become those of pkt, as of a packet that answers the
 * quoted one, whichever way that went.
 */
static __always_inline void parse_quote(const struct lb_frame *frame, struct lb_pkt *pkt, __u32 quote, __u32 end)
{
	struct {
		__be16 source, dest;
		__be32 rest;
	} *l4;
	__u64 src[2], dst[2];
	__u8 proto;
	__u32 at;

	if (pkt->family == 4) {
		struct iphdr *ip = frame->data + quote;

		if (quote + sizeof(*ip) > end || (void *)(ip + 1) > frame->data_end || ip->version != 4 ||
		    ip->ihl < 5 || ip->frag_off & bpf_htons(LB_IP_OFFSET))
			return;
		addr_set_v4(src, ip->saddr);
		addr_set_v4(dst, ip->daddr);
		proto = ip->protocol;
		at = quote + ip->ihl * 4;
	} else {
		struct ipv6hdr *ip6 = frame->data + quote;

		if (quote + sizeof(*ip6) > end || (void *)(ip6 + 1) > frame->data_end || ip6->version != 6)
			return;
		__builtin_memcpy(src, &ip6->saddr, 16);
		__builtin_memcpy(dst, &ip6->daddr, 16);
		if (addr_is_mapped(src) || addr_is_mapped(dst))
			return;
		proto = ip6->nexthdr;
		at = quote + sizeof(*ip6);
	}
	l4 = frame->data + at;
	if ((proto != IPPROTO_TCP && proto != IPPROTO_UDP) || at + sizeof(*l4) > end ||
	    (void *)(l4 + 1) > frame->data_end || src[0] != pkt->dst[0] || src[1] != pkt->dst[1])
		return;
	pkt->related = 1;
	pkt->quote = quote;
	pkt->quote_l4 = at;
	pkt->src[0] = dst[0];
	pkt->src[1] = dst[1];
	pkt->sport = l4->dest;
	pkt->dport = l4->source;
	pkt->proto = proto;
}

static __always_inline int icmp_is_error(const struct lb_pkt *pkt)
{
	if (pkt->family == 4)
		return pkt->icmp_type == LB_ICMP_UNREACHABLE || pkt->icmp_type == LB_ICMP_TIME_EXCEEDED ||
		       pkt->icmp_type == LB_ICMP_PARAMETER;
	return pkt->icmp_type >= LB_ICMPV6_UNREACHABLE && pkt->icmp_type <= LB_ICMPV6_PARAMETER;
}

static __always_inline void parse_icmp(const struct lb_frame *frame, struct lb_pkt *pkt, __u32 l4, __u32 end)
{
	struct {
		__u8 type, code;
		__be16 check, unused, mtu;
	} *icmp = frame->data + l4;

	if (l4 + sizeof(*icmp) > end || (void *)(icmp + 1) > frame->data_end) {
		pkt->malformed = 1;
		return;
	}
	pkt->icmp_type = icmp->type;
	if (pkt->fragment || pkt->proto != (pkt->family == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6) || !icmp_is_error(pkt))
		return;
	if (pkt->family == 4) {
		if (icmp->type == LB_ICMP_UNREACHABLE && icmp->code == LB_ICMP_CODE_TOO_BIG)
			pkt->mtu = bpf_ntohs(icmp->mtu) ?: 1; /* RFC 792's routers do not say */
	} else if (icmp->type == LB_ICMPV6_TOO_BIG) {
		pkt->mtu = icmp->unused ? 0xffff : bpf_ntohs(icmp->mtu) ?: 1;
	}
	parse_quote(frame, pkt, l4 + sizeof(*icmp), end);
}

/* Of a first fragment only the header has to be there. */
static __always_inline void parse_l4(const struct lb_frame *frame, struct lb_pkt *pkt, __u32 l4, __u32 end)
{
	void *cursor = frame->data + l4;

	if (pkt->proto == IPPROTO_TCP) {
		struct tcphdr *tcp = cursor;

		if (l4 + sizeof(*tcp) > end || (void *)(tcp + 1) > frame->data_end || tcp->doff < 5 ||
		    l4 + tcp->doff * 4 > end) {
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

		if (l4 + sizeof(*udp) > end || (void *)(udp + 1) > frame->data_end ||
		    bpf_ntohs(udp->len) < sizeof(*udp) || (!pkt->fragment && l4 + bpf_ntohs(udp->len) > end)) {
			pkt->malformed = 1;
			return;
		}
		pkt->sport = udp->source;
		pkt->dport = udp->dest;
	} else if (pkt->proto == IPPROTO_ICMP || pkt->proto == IPPROTO_ICMPV6) {
		parse_icmp(frame, pkt, l4, end);
	}
}

/* Notes a fragment whose payload begins at l4; offset in bytes. */
static __always_inline void fragment_note(struct lb_pkt *pkt, __u32 offset, int more, __u32 id, __u32 payload)
{
	if (!offset && !more)
		return;
	pkt->fragment = offset ? LB_FRAGMENT_LATER : LB_FRAGMENT_FIRST;
	pkt->fragment_id = id;
	if (offset + payload > 0xffff)
		pkt->malformed = 1;
}

/* Both return the offset of what follows the IP headers, 0 if they make no sense. */
static __always_inline __u32 parse_ipv4(const struct lb_frame *frame, struct lb_pkt *pkt, __u32 l3)
{
	struct iphdr *ip = frame->data + l3;
	__u32 l4, fragment;

	if ((void *)(ip + 1) > frame->data_end || ip->version != 4 || ip->ihl < 5)
		return 0;
	pkt->family = 4;
	addr_set_v4(pkt->src, ip->saddr);
	addr_set_v4(pkt->dst, ip->daddr);
	pkt->proto = ip->protocol;
	pkt->tos = ip->tos;
	pkt->ttl = ip->ttl;
	pkt->len = bpf_ntohs(ip->tot_len);
	fragment = bpf_ntohs(ip->frag_off);
	pkt->dont_fragment = !!(fragment & LB_IP_DF);
	l4 = l3 + ip->ihl * 4;
	if (pkt->len < ip->ihl * 4 || l3 + pkt->len > frame->len)
		pkt->malformed = 1;
	if (fragment & (LB_IP_MF | LB_IP_OFFSET))
		fragment_note(pkt, (fragment & LB_IP_OFFSET) * 8, fragment & LB_IP_MF, bpf_ntohs(ip->id),
			      pkt->len - ip->ihl * 4);
	return l4;
}

static __always_inline int is_extension(__u8 proto)
{
	return proto == IPPROTO_HOPOPTS || proto == IPPROTO_ROUTING || proto == IPPROTO_DSTOPTS ||
	       proto == IPPROTO_FRAGMENT;
}

/* Walks a bounded number of extension headers (RFC 8200 section 4) from l4 on. */
static __always_inline __u32 walk_extensions(const struct lb_frame *frame, struct lb_pkt *pkt, __u32 l4, __u32 end)
{
	__u32 walked = 0, fragment, size;
	int fragmented = 0;

	for (int i = 0; i <= LB_EXTENSIONS_MAX; i++) {
		struct lb_extension *ext = frame->data + l4;
		__u8 kind = pkt->proto;

		if (!is_extension(kind))
			break;
		if (i == LB_EXTENSIONS_MAX) {
			pkt->bad_headers = 1;
			break;
		}
		if (l4 + sizeof(*ext) > end || (void *)(ext + 1) > frame->data_end) {
			pkt->malformed = 1;
			break;
		}
		size = kind == IPPROTO_FRAGMENT ? sizeof(*ext) : (ext->len + 1) * 8;
		walked += size;
		if ((kind == IPPROTO_ROUTING && ext->routing.segments_left) ||
		    (kind == IPPROTO_FRAGMENT && fragmented) || walked > LB_EXTENSIONS_BYTES) {
			pkt->bad_headers = 1;
			break;
		}
		if (l4 + size > end) {
			pkt->malformed = 1;
			break;
		}
		pkt->proto = ext->next;
		l4 += size;
		if (kind != IPPROTO_FRAGMENT)
			continue;
		fragmented = 1;
		fragment = bpf_ntohs(ext->fragment_offset);
		fragment_note(pkt, fragment & ~7, fragment & 1, bpf_ntohl(ext->fragment_id), end - l4);
		if (pkt->fragment == LB_FRAGMENT_LATER)
			break;
	}
	return l4;
}

LB_GLOBAL int walk_extensions_xdp(struct xdp_md *ctx, struct lb_pkt *pkt, __u32 l4, __u32 end)
{
	struct lb_frame frame = frame_xdp(ctx);

	return pkt ? walk_extensions(&frame, pkt, l4 & LB_OFFSET_MASK, end) : 0;
}

LB_GLOBAL int walk_extensions_skb(struct __sk_buff *skb, struct lb_pkt *pkt, __u32 l4, __u32 end)
{
	struct lb_frame frame = frame_skb(skb);

	return pkt ? walk_extensions(&frame, pkt, l4 & LB_OFFSET_MASK, end) : 0;
}

/* Rarely there, and many states for the verifier. */
static __always_inline __u32 parse_extensions(const struct lb_frame *frame, struct lb_pkt *pkt, __u32 l4, __u32 end)
{
	if (!is_extension(pkt->proto))
		return l4;
	if (frame->hook == LB_HOOK_XDP)
		l4 = walk_extensions_xdp(frame->ctx, pkt, l4, end);
	else
		l4 = walk_extensions_skb(frame->ctx, pkt, l4, end);
	return l4 & LB_OFFSET_MASK;
}

static __always_inline __u32 parse_ipv6(const struct lb_frame *frame, struct lb_pkt *pkt, __u32 l3)
{
	struct ipv6hdr *ip6 = frame->data + l3;
	__u32 l4 = l3 + sizeof(*ip6);

	if ((void *)(ip6 + 1) > frame->data_end || ip6->version != 6)
		return 0;
	pkt->family = 6;
	__builtin_memcpy(pkt->src, &ip6->saddr, 16);
	__builtin_memcpy(pkt->dst, &ip6->daddr, 16);
	/* On the wire they are nobody's, and to us they would be an IPv4 flow's. */
	if (addr_is_mapped(pkt->src) || addr_is_mapped(pkt->dst))
		return 0;
	pkt->proto = ip6->nexthdr;
	pkt->tos = bpf_ntohs(*(__be16 *)ip6) >> 4;
	pkt->ttl = ip6->hop_limit;
	pkt->len = sizeof(*ip6) + bpf_ntohs(ip6->payload_len);
	pkt->dont_fragment = 1;
	if (l3 + pkt->len > frame->len) {
		pkt->malformed = 1;
		return l4;
	}
	return parse_extensions(frame, pkt, l4, l3 + pkt->len);
}

/* Parses from the IP header at l3. An IP packet that makes no sense is only
 * marked: whether that concerns us depends on its destination.
 */
static __always_inline enum lb_reason parse_ip(const struct lb_frame *frame, struct lb_pkt *pkt, __u32 l3,
					       __be16 eth_proto)
{
	__u32 l4 = 0;

	pkt->l3 = l3;
	if (eth_proto == bpf_htons(ETH_P_IP))
		l4 = parse_ipv4(frame, pkt, l3);
	else if (eth_proto == bpf_htons(ETH_P_IPV6))
		l4 = parse_ipv6(frame, pkt, l3);
	if (!l4)
		return LB_R_NOT_IP;
	pkt->l4 = l4;
	if (!pkt->malformed && !pkt->bad_headers && pkt->fragment != LB_FRAGMENT_LATER)
		parse_l4(frame, pkt, l4, l3 + pkt->len);
	return LB_R_NONE;
}

static __always_inline int addr_is_self(const __u64 *addr, __u8 family)
{
	if (family == 4)
		return addr[0] == self_v4_hi && addr[1] == self_v4_lo;
	return (self_v6_hi || self_v6_lo) && addr[0] == self_v6_hi && addr[1] == self_v6_lo;
}

/* Walks into a packet that another node sent us, as far as its inner IP header.
 * Nothing of it is believed before option_authentic.
 */
static __always_inline enum lb_reason parse_tunnel(const struct lb_frame *frame, struct lb_pkt *pkt, __u32 l3)
{
	__u32 ip_len = pkt->family == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	/* As far as we send it: without IP options. */
	struct lb_geneve_header *geneve = frame->data + l3 + ip_len + sizeof(struct udphdr);
	int plain = pkt->l4 == l3 + ip_len;
	__be16 inner;

	if (!plain)
		geneve = frame->data + opaque(pkt->l4 & LB_OFFSET_MASK) + sizeof(struct udphdr);
	if ((void *)(geneve + 1) > frame->data_end ||
	    pkt->l4 + sizeof(struct udphdr) + sizeof(*geneve) > l3 + pkt->len ||
	    geneve->ver_optlen != LB_GENEVE_OPTION_WORDS + 1 || geneve->class != bpf_htons(LB_GENEVE_CLASS))
		return LB_R_FOREIGN_TUNNEL;
	inner = geneve->proto;
	if (!plain || geneve->type != LB_GENEVE_TYPE || geneve->len != LB_GENEVE_OPTION_WORDS ||
	    geneve->option.version != LB_VERSION_WIRE || geneve->option.position > LB_POSITION_REDIRECTED ||
	    (inner != bpf_htons(ETH_P_IP) && inner != bpf_htons(ETH_P_IPV6)))
		return LB_R_BAD_OPTION;
	pkt->position = geneve->option.position;
	pkt->table_hash = geneve->option.table_hash;
	__builtin_memcpy(pkt->tags, geneve->option.tags, sizeof(pkt->tags));
	pkt->mac = geneve->option.mac;
	pkt->tunnelled = 1;
	pkt->outer_family = pkt->family;
	pkt->outer_tos = pkt->tos;
	pkt->l3 = l3 + ip_len + sizeof(struct udphdr) + LB_GENEVE_LEN;
	pkt->family = inner == bpf_htons(ETH_P_IP) ? 4 : 6;
	return LB_R_NONE;
}

/* The packet in the tunnel, whose IP header parse_tunnel found. */
static __always_inline enum lb_reason parse_inner(const struct lb_frame *frame, struct lb_pkt *pkt)
{
	__be16 proto = pkt->family == 4 ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6);

	if (parse_ip(frame, pkt, pkt->l3 & LB_OFFSET_MASK, proto) != LB_R_NONE ||
	    pkt->malformed || pkt->bad_headers || (pkt->proto != IPPROTO_TCP && pkt->proto != IPPROTO_UDP))
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

/* tags are those that lie beside the frame. */
static __always_inline enum lb_reason parse(const struct lb_frame *frame, struct lb_pkt *pkt, int tags)
{
	struct ethhdr *eth = frame->data;
	__u32 l3 = sizeof(*eth);
	enum lb_reason reason;
	__be16 eth_proto;

	if ((void *)(eth + 1) > frame->data_end)
		return LB_R_NOT_IP;
	eth_proto = eth->h_proto;
	for (int i = tags; i < LB_TAGS_MAX; i++) {
		struct lb_vlan_tag *tag = frame->data + l3;

		if (eth_proto != bpf_htons(ETH_P_8021Q) && eth_proto != bpf_htons(ETH_P_8021AD))
			break;
		if ((void *)(tag + 1) > frame->data_end)
			return LB_R_NOT_IP;
		eth_proto = tag->proto;
		l3 += sizeof(*tag);
	}
	pkt->tags_len = l3 - sizeof(*eth);
	reason = parse_ip(frame, pkt, l3, eth_proto);
	if (reason != LB_R_NONE)
		return reason;
	if (pkt->proto == IPPROTO_UDP && pkt->dport == geneve_port && !pkt->related && !pkt->malformed &&
	    !pkt->bad_headers && !pkt->fragment && addr_is_self(pkt->dst, pkt->family))
		return parse_tunnel(frame, pkt, l3);
	return LB_R_NONE;
}

/* As functions that are verified once. Each returns an enum lb_reason. */
LB_GLOBAL int parse_inner_xdp(struct xdp_md *ctx, struct lb_pkt *pkt)
{
	struct lb_frame frame = frame_xdp(ctx);

	return pkt ? parse_inner(&frame, pkt) : LB_R_ERROR;
}

LB_GLOBAL int parse_xdp(struct xdp_md *ctx, struct lb_pkt *pkt)
{
	struct lb_frame frame = frame_xdp(ctx);
	enum lb_reason reason;

	if (!pkt)
		return LB_R_ERROR;
	if (!frame_is_ours(frame.data, frame.data_end))
		return LB_R_OTHER_MAC;
	reason = parse(&frame, pkt, 0);
	return pkt->tunnelled ? parse_inner_xdp(ctx, pkt) : reason;
}

LB_GLOBAL int parse_inner_skb(struct __sk_buff *skb, struct lb_pkt *pkt)
{
	struct lb_frame frame = frame_skb(skb);

	return pkt ? parse_inner(&frame, pkt) : LB_R_ERROR;
}

LB_GLOBAL int parse_skb(struct __sk_buff *skb, struct lb_pkt *pkt)
{
	struct lb_frame frame = frame_skb(skb);
	enum lb_reason reason;

	if (!pkt)
		return LB_R_ERROR;
	reason = parse(&frame, pkt, !!skb->vlan_present);
	return pkt->tunnelled ? parse_inner_skb(skb, pkt) : reason;
}

#endif
