// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"log/slog"

	"github.com/fairlead/fairlead/controller/desired"
	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/dataplane"
	"github.com/fairlead/fairlead/xdp"
)

// datapath is what the agent needs of xdp.Datapath.
type datapath interface {
	tables() dataplane.Maps
	Reconfigure(xdp.Config) error
	Attachments() []xdp.Attachment
	Counters() ([]xdp.Counter, error)
	ServiceStats([]lb.ServiceID) (map[lb.ServiceID]xdp.Stats, error)
	Flows(func(xdp.Flow) bool) error
	explainable
	Run(context.Context) error
	Close() error
}

// kernel is the real datapath.
type kernel struct{ *xdp.Datapath }

func (k kernel) tables() dataplane.Maps { return k.Maps() }

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
