package natsjs

import "time"

// SetAckWait shortens the time after which a message that nobody settled comes again.
func (b *Broker) SetAckWait(d time.Duration) { b.ackWait = d }
