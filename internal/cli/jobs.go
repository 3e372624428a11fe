package cli

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
)

// runJob starts a job and follows it to its end. The job continues if the command is
// interrupted.
func (c *client) runJob(cmd *cobra.Command, path string, body any, counted string) error {
	raw, err := c.call(cmd.Context(), http.MethodPost, path, body)
	if err != nil {
		return err
	}
	var job struct {
		ID, Status        string
		Total             *int // null: too many to count
		Scanned, Requeued int
	}
	var bar *progressbar.ProgressBar
	for {
		if err := json.Unmarshal(raw, &job); err != nil {
			return err
		}
		if bar == nil {
			bar = c.progress(1, counted)
		}
		total := job.Scanned + 1
		if job.Total != nil {
			total = max(*job.Total, 1)
		}
		bar.ChangeMax(max(total, job.Scanned))
		_ = bar.Set(job.Scanned)
		if job.Status != "running" {
			_ = bar.Exit()
			if job.Status != "succeeded" {
				return fmt.Errorf("the job %s ended: %s", job.ID, job.Status)
			}
			return c.show(raw)
		}
		select {
		case <-time.After(500 * time.Millisecond):
		case <-cmd.Context().Done():
			return cmd.Context().Err()
		}
		if raw, err = c.call(cmd.Context(), http.MethodGet, "/v1/jobs/"+job.ID, nil); err != nil {
			return err
		}
	}
}
