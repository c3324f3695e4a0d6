# SPDX-License-Identifier: GPL-3.0-or-later

variable "name" {
  type        = string
  description = "What the buckets are called: NAME-evidence, NAME-keys, NAME-lake. Bucket names are global, so begin with your organisation."

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,52}[a-z0-9]$", var.name))
    error_message = "name must be 3 to 54 characters of a-z, 0-9 and '-', and neither begin nor end with '-': S3 allows 63, and '-evidence' is added."
  }
}

variable "evidence_lock" {
  type = object({
    mode = optional(string, "COMPLIANCE")
    days = optional(number, 400)
  })
  default     = {}
  description = "Object Lock of the evidence. COMPLIANCE: nobody may shorten it, the account's root included. GOVERNANCE: who has s3:BypassGovernanceRetention may."

  validation {
    condition     = contains(["COMPLIANCE", "GOVERNANCE"], var.evidence_lock.mode)
    error_message = "evidence_lock.mode must be COMPLIANCE or GOVERNANCE."
  }

  validation {
    condition     = var.evidence_lock.days >= 1 && var.evidence_lock.days <= 36500 && floor(var.evidence_lock.days) == var.evidence_lock.days
    error_message = "evidence_lock.days must be a whole number of days from 1 to 36500."
  }
}

variable "keys_lock_days" {
  type        = number
  default     = 7
  description = "How long a wrapped session key cannot be deleted, in days. Short on purpose: erasing a session's keys is how its content is erased. The lock is GOVERNANCE."

  validation {
    condition     = var.keys_lock_days >= 1 && var.keys_lock_days <= 36500 && floor(var.keys_lock_days) == var.keys_lock_days
    error_message = "keys_lock_days must be a whole number of days from 1 to 36500."
  }

  validation {
    condition     = var.keys_lock_days <= var.evidence_lock.days
    error_message = "keys_lock_days must not be longer than evidence_lock.days: keys are what may be erased first."
  }
}

variable "lake_days" {
  type = object({
    infrequent_access = optional(number, 30)
    expire            = optional(number, 400)
  })
  default     = {}
  description = "After how many days the lake's files move to cheaper storage, and after how many they are deleted. The lake can be rebuilt from the evidence."

  validation {
    condition     = var.lake_days.infrequent_access >= 30
    error_message = "lake_days.infrequent_access must be at least 30: S3 moves nothing sooner."
  }

  validation {
    condition     = var.lake_days.expire > var.lake_days.infrequent_access
    error_message = "lake_days.expire must be later than lake_days.infrequent_access."
  }
}

variable "writer_principals" {
  type = object({
    services = optional(list(string), [])
    arns     = optional(list(string), [])
  })
  default     = { services = ["ec2.amazonaws.com"] }
  description = "Who may take the writer's role: the gateway's hosts. By default, EC2 instances with the instance profile that is made."

  validation {
    condition     = length(var.writer_principals.services) + length(var.writer_principals.arns) > 0
    error_message = "writer_principals must name a service or an ARN: else no gateway can write."
  }

  validation {
    condition     = alltrue([for arn in var.writer_principals.arns : startswith(arn, "arn:")])
    error_message = "writer_principals.arns must be ARNs of IAM principals; a wildcard would let in everybody."
  }
}

variable "auditor_arns" {
  type        = list(string)
  default     = []
  description = "IAM principals that may take the auditor's role: to read, never to write. Another account's make the audit independent. None: no role is made."

  validation {
    condition     = alltrue([for arn in var.auditor_arns : startswith(arn, "arn:")])
    error_message = "auditor_arns must be ARNs of IAM principals; a wildcard would let in everybody."
  }
}

variable "eraser_arns" {
  type        = list(string)
  default     = []
  description = "IAM principals that may take the eraser's role: to delete wrapped keys once their lock is over, nothing else. None: no role is made."

  validation {
    condition     = alltrue([for arn in var.eraser_arns : startswith(arn, "arn:")])
    error_message = "eraser_arns must be ARNs of IAM principals; a wildcard would let in everybody."
  }
}

variable "force_destroy" {
  type        = bool
  default     = false
  description = "Whether destroying may delete buckets that hold objects. What Object Lock still protects stays, and the bucket with it."
}

variable "tags" {
  type        = map(string)
  default     = {}
  description = "Tags of everything that is made."
}
