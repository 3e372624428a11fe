module github.com/posthaste-hq/posthaste

go 1.26.8
