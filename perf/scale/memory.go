// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
)

// memoryOf reads how much memory the process has at the moment.
func memoryOf(pid int) (m Memory, err error) {
	file, err := os.Open(fmt.Sprintf("/proc/%d/smaps", pid))
	if err != nil {
		return m, err
	}
	defer file.Close()
	if m, err = parseSmaps(file); err != nil {
		return m, fmt.Errorf("read %s: %w", file.Name(), err)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return m, err
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			m.Peak, err = kilobytes(rest)
		}
	}
	return m, err
}

// parseSmaps sums up proc_pid_smaps(5).
func parseSmaps(r io.Reader) (m Memory, err error) {
	maps := false // whether the mapping is of BPF maps
	for lines := bufio.NewScanner(r); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), ":")
		if strings.Contains(name, "-") { // "7f00-7f01 rw-s 00000000 00:0e 1057 anon_inode:bpf-map"
			maps = strings.HasSuffix(lines.Text(), "bpf-map")
			continue
		}
		if name != "Rss" && name != "Anonymous" {
			continue
		}
		n, err := kilobytes(value)
		switch {
		case err != nil:
			return m, err
		case name == "Anonymous":
			m.Anonymous += n
		case maps:
			m.Maps += n
		default:
			m.Bytes += n
		}
	}
	return m, nil
}

// kilobytes parses "  12 kB" into bytes.
func kilobytes(text string) (uint64, error) {
	n, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(text), " kB"), 10, 54)
	return n << 10, err
}

// loadAverage is that of the last minute.
func loadAverage() (float64, error) {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(string(b), " ")
	return strconv.ParseFloat(first, 64)
}

// tick is the unit of times in proc_pid_stat(5): USER_HZ is 100 on every architecture of Go's.
const tick = 10 * time.Millisecond

// processorTime is what the process has used so far.
func processorTime(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	return parseStat(string(b))
}

// parseStat finds utime and stime, the 14th and 15th field; the second one, in
// parentheses, may hold spaces.
func parseStat(text string) (time.Duration, error) {
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("read process times: %d fields", len(fields))
	}
	user, err := strconv.ParseUint(fields[11], 10, 63)
	if err != nil {
		return 0, fmt.Errorf("read user time: %w", err)
	}
	system, err := strconv.ParseUint(fields[12], 10, 63)
	if err != nil {
		return 0, fmt.Errorf("read system time: %w", err)
	}
	return time.Duration(user+system) * tick, nil
}
