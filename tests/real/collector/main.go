// A Splunk HEC and OTLP receiver for the tests: the OpenTelemetry Collector's own splunkhecreceiver, ack
// extension and otlpreceiver, joined by a few lines instead of the whole Collector, which takes minutes to build.
//
// Comes in: -listen, -out, with -ack the extension, and with -otlp an OTLP receiver over HTTP in place of the other.
// Goes out: one JSON line an event, {"key","event"} and for OTLP all else that was read, appended to -out. A batch is answered when it is queued in memory, written and fsynced
// a moment later, and only then acknowledged: as Splunk does, it loses what it accepted and did not
// acknowledge when it is killed. Ids and answers are the extension's.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/open-telemetry/opentelemetry-collector-contrib/extension/ackextension"
	"github.com/open-telemetry/opentelemetry-collector-contrib/receiver/splunkhecreceiver"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/extension"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
	metric "go.opentelemetry.io/otel/metric/noop"
	trace "go.opentelemetry.io/otel/trace/noop"
	"go.uber.org/zap"
)

// host knows the extensions, which is all that the receiver asks of the Collector.
type host map[component.ID]component.Component

func (h host) GetExtensions() map[component.ID]component.Component { return h }

// step is a batch to be written, or an acknowledgement to be given when all before it is written.
type step struct {
	logs plog.Logs
	ack  func()
}

// exporter writes what is queued, many steps with one fsync.
type exporter struct {
	queue chan step
	out   *os.File
}

func (e *exporter) consume(_ context.Context, logs plog.Logs) error {
	e.queue <- step{logs: logs}
	return nil
}

func (e *exporter) run() {
	for first := range e.queue {
		time.Sleep(50 * time.Millisecond)
		lines, acks := bufio.NewWriter(e.out), []func(){}
		for next, waiting := first, len(e.queue); ; waiting-- {
			if next.ack != nil {
				acks = append(acks, next.ack)
			} else {
				check(encode(lines, next.logs))
			}
			if waiting == 0 {
				break
			}
			next = <-e.queue
		}
		check(lines.Flush())
		check(e.out.Sync())
		for _, ack := range acks {
			ack()
		}
	}
}

func encode(lines *bufio.Writer, logs plog.Logs) error {
	encoder := json.NewEncoder(lines)
	for _, resource := range logs.ResourceLogs().All() {
		for _, scope := range resource.ScopeLogs().All() {
			for _, record := range scope.LogRecords().All() {
				key, _ := record.Attributes().Get("auditferry_key")
				line := map[string]any{"key": key.AsString(), "event": record.Body().AsRaw()}
				if record.SeverityNumber() != plog.SeverityNumberUnspecified {
					line["attributes"] = record.Attributes().AsRaw()
					line["time"] = record.Timestamp().AsTime().UnixMilli()
					line["severity"] = record.SeverityNumber().String()
					line["resource"] = resource.Resource().Attributes().AsRaw()
					line["scope"] = scope.Scope().Name()
				}
				if err := encoder.Encode(line); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// afterWrite is the ack extension, told of a batch when it is written instead of when it is queued.
type afterWrite struct {
	extension.Extension
	ackextension.AckExtension
	queue chan<- step
}

func (a afterWrite) Start(ctx context.Context, host component.Host) error {
	return a.Extension.Start(ctx, host)
}

func (a afterWrite) Shutdown(ctx context.Context) error { return a.Extension.Shutdown(ctx) }

func (a afterWrite) Ack(partition string, id uint64) {
	a.queue <- step{ack: func() { a.AckExtension.Ack(partition, id) }}
}

// open cuts what a kill left of a line: that batch was not acknowledged.
func open(path string) (*os.File, error) {
	written, err := os.ReadFile(path)
	if err == nil {
		err = os.Truncate(path, int64(bytes.LastIndexByte(written, '\n')+1))
	}
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	return os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
}

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "address to listen on")
	path := flag.String("out", "events.ndjson", "file to append to")
	otlp := flag.Bool("otlp", false, "speak OTLP over HTTP")
	ack := flag.Bool("ack", false, "acknowledge by the ack extension")
	flag.Parse()
	out, err := open(*path)
	check(err)
	exporter := &exporter{queue: make(chan step, 256), out: out}
	go exporter.run()

	ctx := context.Background()
	logger, err := zap.NewProduction()
	check(err)
	telemetry := component.TelemetrySettings{
		Logger:         logger,
		TracerProvider: trace.NewTracerProvider(),
		MeterProvider:  metric.NewMeterProvider(),
		Resource:       pcommon.NewResource(),
	}
	next, err := consumer.NewLogs(exporter.consume)
	check(err)
	if *otlp {
		factory := otlpreceiver.NewFactory()
		config := factory.CreateDefaultConfig().(*otlpreceiver.Config)
		http := map[string]any{"http": map[string]any{"endpoint": *listen}}
		check(confmap.NewFromStringMap(map[string]any{"protocols": http}).Unmarshal(config))
		settings := receiver.Settings{ID: component.NewID(factory.Type()), TelemetrySettings: telemetry}
		logs, err := factory.CreateLogs(ctx, settings, config, next)
		check(err)
		check(logs.Start(ctx, host{}))
		wait()
		check(logs.Shutdown(ctx))
		return
	}
	extensions := host{}
	factory := splunkhecreceiver.NewFactory()
	config := factory.CreateDefaultConfig().(*splunkhecreceiver.Config)
	config.Endpoint = *listen
	if *ack {
		factory := ackextension.NewFactory()
		id := component.NewID(factory.Type())
		settings := extension.Settings{ID: id, TelemetrySettings: telemetry}
		inner, err := factory.Create(ctx, settings, factory.CreateDefaultConfig())
		check(err)
		extensions[id] = afterWrite{inner, inner.(ackextension.AckExtension), exporter.queue}
		config.Ack.Extension = &id
	}
	settings := receiver.Settings{ID: component.NewID(factory.Type()), TelemetrySettings: telemetry}
	hec, err := factory.CreateLogs(ctx, settings, config, next)
	check(err)
	check(hec.Start(ctx, extensions))

	wait()
	check(hec.Shutdown(ctx))
}

func wait() {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	<-stop
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
