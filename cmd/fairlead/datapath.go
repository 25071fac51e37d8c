// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/fairlead/fairlead/controller/desired"
	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/dataplane"
	"github.com/fairlead/fairlead/xdp"
)

// datapath is what the agent needs of xdp.Datapath.
type datapath interface {
	name() string // "kernel" or "userspace"
	tables() dataplane.Maps
	sockets() ([]socketReport, error)
	Reconfigure(xdp.Config) error
	Attachments() []xdp.Attachment
	Counters() ([]xdp.Counter, error)
	ServiceStats([]lb.ServiceID) (map[lb.ServiceID]xdp.Stats, error)
	Flows(func(xdp.Flow) bool) error
	TracksConnections() bool
	Connections(func(xdp.Connection)) error
	explainable
	Run(context.Context) error
	Close() error
}

// The datapaths, as the command line calls them.
const (
	datapathKernel    = "kernel"
	datapathUserspace = "userspace"
)

// parseDatapath checks a datapath's name.
func parseDatapath(s string) (string, error) {
	if s != datapathKernel && s != datapathUserspace {
		return "", fmt.Errorf("unknown datapath %q: want kernel or userspace", s)
	}
	return s, nil
}

// kernel is the datapath of XDP and TC.
type kernel struct{ *xdp.Datapath }

func (k kernel) name() string                     { return datapathKernel }
func (k kernel) tables() dataplane.Maps           { return k.Maps() }
func (k kernel) sockets() ([]socketReport, error) { return nil, nil }

func openKernel(c xdp.Config) (datapath, error) {
	d, err := xdp.Open(c)
	if err != nil {
		return nil, err
	}
	return kernel{d}, nil
}

// datapathConfig is the part of the settings that the datapath has to know. A
// mode of the command line goes before the file's.
func datapathConfig(s desired.Settings, mode xdp.Mode, log *slog.Logger) xdp.Config {
	if mode == "" {
		mode = xdp.Mode(s.XDPMode)
	}
	return xdp.Config{
		PinPath: s.PinPath, Mode: mode, Interfaces: s.Interfaces, Addrs: s.Addrs, GenevePort: s.GenevePort, Keys: s.Keys,
		FlowEntries: s.Limits.Flows, Services: s.Limits.Services, Backends: s.Limits.Backends,
		TableBytes: s.Limits.TableMemory,
		Logger:     log,
	}
}
