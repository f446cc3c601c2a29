package main

import (
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"ssmnet/cmd/internal/cli"
)

// onHangup does f at each SIGHUP, which else would end this process without a goodbye to its peers.
func onHangup(f func()) (stop func()) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	var task sync.WaitGroup
	task.Go(func() {
		for range hangups {
			f()
		}
	})
	return func() {
		signal.Stop(hangups) // after which none is sent
		close(hangups)
		task.Wait()
	}
}

// relevel reads the log level of the settings again; faulty ones change nothing.
func relevel(c *cli.Context, level *slog.LevelVar, log *slog.Logger) {
	s, err := readSettings(c)
	if err != nil {
		log.Error("the log level was not read again", "error", err)
		return
	}
	level.Set(s.level)
	log.Log(c.Context, s.level, "read log_level again; other settings are read at the next start", "log_level", s.level)
}
