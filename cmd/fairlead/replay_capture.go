// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/fairlead/fairlead/lb/packet"
)

// First bytes of what a capture can be, in the order in which they lie in the file.
var (
	magicGzip = []byte{0x1f, 0x8b}
	magicNg   = []byte{0x0a, 0x0d, 0x0d, 0x0a}
	magicPcap = [][]byte{ // in microseconds and nanoseconds, of little-endian and big-endian machines
		{0xd4, 0xc3, 0xb2, 0xa1}, {0xa1, 0xb2, 0xc3, 0xd4},
		{0x4d, 0x3c, 0xb2, 0xa1}, {0xa1, 0xb2, 0x3c, 0x4d},
	}
)

// capture reads packets from a pcap or pcapng file, one at a time.
type capture struct {
	path  string
	file  *os.File
	read  func() ([]byte, gopacket.CaptureInfo, error)
	link  func(gopacket.CaptureInfo) layers.LinkType
	frame []byte    // made of a packet without an Ethernet header
	last  time.Time // of the packet before
}

// captured is a packet. frame is good until the next one.
type captured struct {
	frame     []byte
	time      time.Time
	length    int // on the wire
	truncated bool
}

// openCapture opens a pcap or pcapng file, which may be compressed by gzip.
func openCapture(path string) (*capture, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open capture: %w", err)
	}
	c := &capture{path: path, file: f}
	if err := c.begin(bufio.NewReaderSize(f, 1<<16)); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), f.Close())
	}
	return c, nil
}

// begin reads what stands before the first packet.
func (c *capture) begin(in *bufio.Reader) error {
	magic, err := peek(in)
	if err != nil {
		return err
	}
	if bytes.HasPrefix(magic, magicGzip) {
		unzipped, err := gzip.NewReader(in)
		if err != nil {
			return err
		}
		in = bufio.NewReaderSize(unzipped, 1<<16)
		if magic, err = peek(in); err != nil {
			return err
		}
	}
	if bytes.Equal(magic, magicNg) {
		r, err := pcapgo.NewNgReader(in, pcapgo.NgReaderOptions{WantMixedLinkType: true})
		if err != nil {
			return fmt.Errorf("read pcapng header: %w", err)
		}
		c.read = r.ZeroCopyReadPacketData
		c.link = func(ci gopacket.CaptureInfo) layers.LinkType {
			i, _ := r.Interface(ci.InterfaceIndex) // the reader has found it
			return i.LinkType
		}
		return nil
	}
	for _, known := range magicPcap {
		if !bytes.Equal(magic, known) {
			continue
		}
		r, err := pcapgo.NewReader(in)
		if err != nil {
			return fmt.Errorf("read pcap header: %w", err)
		}
		c.read = r.ZeroCopyReadPacketData
		c.link = func(gopacket.CaptureInfo) layers.LinkType { return r.LinkType() }
		return nil
	}
	return fmt.Errorf("starts with % x: neither pcap nor pcapng", magic)
}

func peek(in *bufio.Reader) ([]byte, error) {
	magic, err := in.Peek(4)
	if errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%d bytes: neither pcap nor pcapng", len(magic))
	}
	return magic, err
}

// next is the next packet, as an Ethernet frame. The error is errCaptureEnd
// where the file ends behind a packet.
func (c *capture) next() (captured, error) {
	data, ci, err := c.read()
	switch {
	case errors.Is(err, io.EOF) && ci.CaptureLength == 0:
		return captured{}, errCaptureEnd
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return captured{}, errors.New("the file ends inside of it")
	case err != nil:
		return captured{}, err
	}
	// A simple packet block of pcapng has no time.
	if !ci.Timestamp.IsZero() {
		c.last = ci.Timestamp
	}
	p := captured{time: c.last, length: ci.Length, truncated: ci.CaptureLength < ci.Length}
	p.frame, err = c.ethernet(c.link(ci), data, p.truncated)
	return p, err
}

func (c *capture) Close() error { return c.file.Close() }

// linkHeader is what stands before the IP packet instead of an Ethernet header.
type linkHeader struct {
	length    int
	etherType int // its place
}

// Linux' cooked captures have an EtherType in their header.
var cookedHeaders = map[layers.LinkType]linkHeader{
	layers.LinkTypeLinuxSLL:  {length: 16, etherType: 14},
	layers.LinkTypeLinuxSLL2: {length: 20, etherType: 0},
}

// ethernet makes an Ethernet frame without addresses where the capture has
// another link type.
func (c *capture) ethernet(link layers.LinkType, data []byte, truncated bool) ([]byte, error) {
	cooked, isCooked := cookedHeaders[link]
	switch {
	case link == layers.LinkTypeEthernet:
		return data, nil
	case link == layers.LinkTypeRaw, link == layers.LinkTypeIPv4, link == layers.LinkTypeIPv6:
		eth := packet.EtherTypeIPv6
		if len(data) > 0 && data[0]>>4 == 4 {
			eth = packet.EtherTypeIPv4
		}
		return c.withHeader(uint16(eth), data), nil
	case isCooked && len(data) >= cooked.length:
		return c.withHeader(binary.BigEndian.Uint16(data[cooked.etherType:]), data[cooked.length:]), nil
	case isCooked && truncated:
		return data, nil // nobody looks at it
	case isCooked:
		return nil, fmt.Errorf("%d bytes: shorter than the header of link type %s", len(data), link)
	}
	return nil, fmt.Errorf("link type %d (%s): want Ethernet, Linux SLL or raw IP", link, link)
}

func (c *capture) withHeader(etherType uint16, ip []byte) []byte {
	c.frame = append(c.frame[:0], make([]byte, packet.EthernetLen-2)...)
	c.frame = binary.BigEndian.AppendUint16(c.frame, etherType)
	c.frame = append(c.frame, ip...)
	return c.frame
}

// writtenSnapLength is libpcap's largest.
const writtenSnapLength = 262144

// captureWriter writes Ethernet frames to a pcap file. A nil one does nothing.
type captureWriter struct {
	path   string
	file   *os.File
	buffer *bufio.Writer
	pcap   *pcapgo.Writer
}

// createCapture refuses to write over the capture that is read.
func createCapture(path string, from *capture) (*captureWriter, error) {
	if sameFile(path, from.file) {
		return nil, usageError{fmt.Errorf("--write %q: is the capture itself", path)}
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("create capture: %w", err)
	}
	w := &captureWriter{path: path, file: f, buffer: bufio.NewWriterSize(f, 1<<16)}
	w.pcap = pcapgo.NewWriterNanos(w.buffer)
	if err := w.pcap.WriteFileHeader(writtenSnapLength, layers.LinkTypeEthernet); err != nil {
		return nil, errors.Join(fmt.Errorf("write %s: %w", path, err), f.Close())
	}
	return w, nil
}

func (w *captureWriter) write(t time.Time, frame []byte) error {
	if w == nil {
		return nil
	}
	// The zero time would be taken for now.
	if t.IsZero() {
		t = time.Unix(0, 0)
	}
	ci := gopacket.CaptureInfo{Timestamp: t, CaptureLength: len(frame), Length: len(frame)}
	if err := w.pcap.WritePacket(ci, frame); err != nil {
		return fmt.Errorf("write %s: %w", w.path, err)
	}
	return nil
}

func (w *captureWriter) Close() error {
	if w == nil {
		return nil
	}
	if err := errors.Join(w.buffer.Flush(), w.file.Close()); err != nil {
		return fmt.Errorf("write %s: %w", w.path, err)
	}
	return nil
}
